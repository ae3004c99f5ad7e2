"""What connections still carry when the next user gets them."""
