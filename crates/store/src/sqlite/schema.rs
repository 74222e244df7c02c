//! The tables, as the list of steps that made them. A step that was released is never changed; a new one is added.

/// A kind of database.
pub(crate) struct Schema {
    /// Marks the file for us and for `file`.
    pub(crate) application_id: i32,
    /// From nothing to the newest form; the number of steps taken is the database's `user_version`.
    pub(crate) migrations: &'static [&'static str],
}

/// A workspace's `sessions.db` ("SGSE").
pub(crate) const SESSIONS: Schema = Schema { application_id: 0x5347_5345, migrations: &[SESSIONS_1] };

/// The `gateway.db` ("SGGW").
pub(crate) const GATEWAY: Schema = Schema { application_id: 0x5347_4757, migrations: &[GATEWAY_1] };

// `place` is the order of arrival: ids begin with their time, but two of one millisecond have none. Times are milliseconds since 1970; labels, code and the like are the text forms of their types.
const SESSIONS_1: &str = "
    CREATE TABLE session (
        place INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, channel TEXT NOT NULL, conversation TEXT NOT NULL, user TEXT NOT NULL, role TEXT NOT NULL,
        label TEXT NOT NULL, created INTEGER NOT NULL, archived INTEGER
    ) STRICT;
    CREATE INDEX session_by_place ON session (channel, conversation, user) WHERE archived IS NULL;
    CREATE TABLE turn (
        place INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, session TEXT NOT NULL REFERENCES session (id), channel TEXT NOT NULL, key TEXT NOT NULL,
        user TEXT NOT NULL, role TEXT NOT NULL, origin TEXT NOT NULL, content TEXT NOT NULL, label TEXT NOT NULL,
        at INTEGER NOT NULL, state TEXT NOT NULL, outcome TEXT, code TEXT, changed INTEGER NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX turn_once ON turn (channel, key);
    CREATE INDEX turn_by_session ON turn (session);
    CREATE INDEX turn_open ON turn (place) WHERE state IN ('accepted', 'running');
    CREATE TABLE message (
        session TEXT NOT NULL REFERENCES session (id), seq INTEGER NOT NULL, turn TEXT REFERENCES turn (id),
        role TEXT NOT NULL, part TEXT NOT NULL, origin TEXT NOT NULL, content TEXT NOT NULL, label TEXT NOT NULL,
        at INTEGER NOT NULL, PRIMARY KEY (session, seq)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE call (
        turn TEXT NOT NULL REFERENCES turn (id), call TEXT NOT NULL, place INTEGER NOT NULL, tool TEXT NOT NULL,
        effect TEXT NOT NULL, receipt TEXT NOT NULL, started INTEGER NOT NULL, ok INTEGER, ended INTEGER,
        PRIMARY KEY (turn, call)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE reply (
        place INTEGER PRIMARY KEY, turn TEXT NOT NULL UNIQUE REFERENCES turn (id), channel TEXT NOT NULL, origin TEXT NOT NULL, content TEXT NOT NULL,
        label TEXT NOT NULL, at INTEGER NOT NULL, sent INTEGER
    ) STRICT;
    CREATE INDEX reply_unsent ON reply (place) WHERE sent IS NULL;
    CREATE TABLE approval (
        place INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, turn TEXT NOT NULL REFERENCES turn (id), plan TEXT NOT NULL, digest TEXT NOT NULL,
        label TEXT NOT NULL, at INTEGER NOT NULL, expires INTEGER NOT NULL, state TEXT NOT NULL,
        user TEXT, role TEXT, resolved INTEGER
    ) STRICT;
    CREATE INDEX approval_pending ON approval (place) WHERE state = 'pending';
    CREATE INDEX approval_by_turn ON approval (turn);
";

const GATEWAY_1: &str = "
    CREATE TABLE user (
        id TEXT PRIMARY KEY, display_name TEXT NOT NULL, role TEXT NOT NULL, created INTEGER NOT NULL, disabled INTEGER
    ) STRICT;
    CREATE TABLE workspace (id TEXT PRIMARY KEY, title TEXT NOT NULL, created INTEGER NOT NULL) STRICT;
    CREATE TABLE member (
        workspace TEXT NOT NULL REFERENCES workspace (id), user TEXT NOT NULL REFERENCES user (id), role TEXT NOT NULL,
        PRIMARY KEY (workspace, user)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX member_by_user ON member (user, workspace);
    CREATE TABLE token (
        id TEXT PRIMARY KEY, user TEXT NOT NULL REFERENCES user (id), title TEXT NOT NULL, digest TEXT NOT NULL UNIQUE,
        scopes TEXT NOT NULL, created INTEGER NOT NULL, expires INTEGER, revoked INTEGER, last_used INTEGER
    ) STRICT;
    CREATE TABLE plugin (
        plugin TEXT NOT NULL, workspace TEXT NOT NULL, enabled INTEGER NOT NULL, config TEXT NOT NULL,
        changed INTEGER NOT NULL, PRIMARY KEY (plugin, workspace)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE setting (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
";
