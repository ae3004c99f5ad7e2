"""The two roles of a run: one owns the schema, the other is the application's, held by row security."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

from pytest_ssot_isolation.provisioning.postgres.address import Address


@dataclass(frozen=True, slots=True)
class Roles:
    """Names and passwords that every worker of a run works out alike.

    Attributes:
        prefix: Of every name that this run gives on the server: databases, roles, templates.
        is_superuser: Whether the package itself connects as a superuser.
        major: The server's major version.
    """

    prefix: str
    is_superuser: bool
    major: int
    _secret: bytes = field(repr=False)

    @classmethod
    def of(cls, run_id: str, admin: Address, *, is_superuser: bool, major: int) -> Roles:
        """Derive this run's roles; only who knows the server's own password can work theirs out."""
        digest = hashlib.sha256(run_id.encode()).hexdigest()[:10]
        secret = hashlib.sha256(f"{run_id} {admin.password}".encode()).digest()
        return cls(f"ssot_{digest}", is_superuser, major, secret)

    @property
    def number(self) -> int:
        """The prefix as a number, for locks."""
        return number_of(self.prefix)

    @property
    def owner(self) -> str:
        """The role that owns databases and schema."""
        return f"{self.prefix}_owner"

    @property
    def app(self) -> str:
        """The application's role."""
        return f"{self.prefix}_app"

    def password_of(self, role: str) -> str:
        """Return a role's password."""
        return hmac.new(self._secret, role.encode(), "sha256").hexdigest()[:32]

    def app_in(self, place: Address) -> Address:
        """Return the application's way into a database."""
        return place.as_role(self.app, self.password_of(self.app))

    def owner_in(self, place: Address) -> Address:
        """Return the owner's way into a database."""
        return place.as_role(self.owner, self.password_of(self.owner))

    def create(self, role: str) -> str:
        """Return the script that makes a login role without any power."""
        powers = "LOGIN NOCREATEDB NOCREATEROLE INHERIT"
        if self.is_superuser:
            powers += " NOSUPERUSER NOBYPASSRLS NOREPLICATION"
        script = f"CREATE ROLE {role} {powers} PASSWORD '{self.password_of(role)}'"
        if (
            not self.is_superuser
        ):  # Whoever is no superuser has to be a member of it to end and to undo its doings.
            script += f"; GRANT {role} TO CURRENT_USER"
            script += " WITH INHERIT TRUE, SET TRUE" if self.major >= 16 else ""
        return script

    @property
    def create_both(self) -> str:
        """The script that makes the run's two roles."""
        # A random password of 128 bits needs no slow hash, and connecting is a third faster without.
        steps = ["SET LOCAL scram_iterations = 1"] if self.major >= 16 else []
        return ";\n".join([*steps, self.create(self.owner), self.create(self.app)])

    @property
    def grants(self) -> str:
        """The script, run as the owner in a fresh database, that lets the application use what comes."""
        steps = [
            f"ALTER DEFAULT PRIVILEGES GRANT {what} TO {self.app}"
            for what in (
                "USAGE ON SCHEMAS",
                "SELECT, INSERT, UPDATE, DELETE ON TABLES",
                "USAGE, SELECT, UPDATE ON SEQUENCES",
                "EXECUTE ON FUNCTIONS",
            )
        ]
        return ";\n".join([*steps, f"GRANT USAGE ON SCHEMA public TO {self.app}"])

    @property
    def has_settings(self) -> str:
        """A column that says whether a test set anything on a role for itself."""
        return (
            "EXISTS (SELECT FROM pg_db_role_setting WHERE setdatabase = 0"
            f" AND setrole IN ('{self.app}'::regrole, '{self.owner}'::regrole))"
        )

    @property
    def forget_settings(self) -> str:
        """The script that undoes what a test may set on a role for itself."""
        return f"ALTER ROLE {self.app} RESET ALL; ALTER ROLE {self.owner} RESET ALL"


def number_of(prefix: str) -> int:
    """Return a run's prefix as a number that fits a lock's key."""
    return int(prefix.removeprefix("ssot_")[:7], 16)
