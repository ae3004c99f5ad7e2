-- Run by the owner of the schema. The application connects as another role, which owns nothing here
-- and is neither superuser nor BYPASSRLS; it gets its rights by ALTER DEFAULT PRIVILEGES.
--
-- Each table says by its defaults who writes a row, and by one policy who may see it: the user whom the
-- transaction is bound to. Where nobody is bound the settings are empty, and no row has an empty user.
-- A place is for the order only and never shown, since it counts over all users.

CREATE TABLE note (
    tenant_id text NOT NULL DEFAULT current_setting('app.tenant_id', true),
    user_id   text NOT NULL DEFAULT current_setting('app.user_id', true) CHECK (user_id <> ''),
    place     bigint GENERATED ALWAYS AS IDENTITY,
    title     text NOT NULL CHECK (char_length(title) BETWEEN 1 AND 120),
    body      text NOT NULL,
    colour    text NOT NULL DEFAULT 'white' CHECK (colour IN ('white', 'yellow', 'green')),
    PRIMARY KEY (tenant_id, user_id, title)
);
ALTER TABLE note ENABLE ROW LEVEL SECURITY;
ALTER TABLE note FORCE ROW LEVEL SECURITY;  -- the owner too, and so every view of the owner
CREATE POLICY own_notes ON note
    USING (tenant_id = current_setting('app.tenant_id', true) AND user_id = current_setting('app.user_id', true))
    WITH CHECK (tenant_id = current_setting('app.tenant_id', true) AND user_id = current_setting('app.user_id', true));

-- What the search looks at. Without security_invoker it would be read with the rights of its owner.
CREATE VIEW note_title WITH (security_invoker = true, security_barrier = true) AS
    SELECT title, body, colour, place, lower(title) AS folded FROM note;

CREATE TABLE agent_run (
    run_id    uuid PRIMARY KEY,
    place     bigint GENERATED ALWAYS AS IDENTITY,
    tenant_id text NOT NULL DEFAULT current_setting('app.tenant_id', true),
    user_id   text NOT NULL DEFAULT current_setting('app.user_id', true) CHECK (user_id <> ''),
    label     text NOT NULL,
    prompt    text NOT NULL,
    status    text NOT NULL DEFAULT 'started' CHECK (status IN ('started', 'finished')),
    output    text
);
CREATE INDEX agent_run_of_a_user ON agent_run (tenant_id, user_id, place);
ALTER TABLE agent_run ENABLE ROW LEVEL SECURITY;
ALTER TABLE agent_run FORCE ROW LEVEL SECURITY;
CREATE POLICY own_runs ON agent_run
    USING (tenant_id = current_setting('app.tenant_id', true) AND user_id = current_setting('app.user_id', true))
    WITH CHECK (tenant_id = current_setting('app.tenant_id', true) AND user_id = current_setting('app.user_id', true));

CREATE TABLE activity (
    place     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text NOT NULL DEFAULT current_setting('app.tenant_id', true),
    user_id   text NOT NULL DEFAULT current_setting('app.user_id', true) CHECK (user_id <> ''),
    what      text NOT NULL
);
CREATE INDEX activity_of_a_user ON activity (tenant_id, user_id, place);
ALTER TABLE activity ENABLE ROW LEVEL SECURITY;
ALTER TABLE activity FORCE ROW LEVEL SECURITY;
CREATE POLICY own_activity ON activity
    USING (tenant_id = current_setting('app.tenant_id', true) AND user_id = current_setting('app.user_id', true))
    WITH CHECK (tenant_id = current_setting('app.tenant_id', true) AND user_id = current_setting('app.user_id', true));

CREATE TABLE message (
    place         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sender_tenant text NOT NULL DEFAULT current_setting('app.tenant_id', true),
    sender        text NOT NULL DEFAULT current_setting('app.user_id', true) CHECK (sender <> ''),
    recipient     text NOT NULL CHECK (recipient <> ''),
    text          text NOT NULL
);
CREATE INDEX message_sent ON message (sender_tenant, sender, place);
CREATE INDEX message_received ON message (recipient, place);
ALTER TABLE message ENABLE ROW LEVEL SECURITY;
ALTER TABLE message FORCE ROW LEVEL SECURITY;
CREATE POLICY sent_or_received ON message FOR SELECT
    USING (
        recipient = current_setting('app.user_id', true)
        OR (sender_tenant = current_setting('app.tenant_id', true) AND sender = current_setting('app.user_id', true))
    );
CREATE POLICY sent_as_oneself ON message FOR INSERT
    WITH CHECK (sender_tenant = current_setting('app.tenant_id', true) AND sender = current_setting('app.user_id', true));
