-- The journal of a station, version 1 (PRAGMA user_version).
-- Times ending in _us are on CLOCK_MONOTONIC of the run's boot; those ending in
-- _ms are by the wall clock, which may step. Each entry of the ring ends up in
-- exactly one table, under its sequence number.

-- Where the journal stands: written in the same transaction as the entries.
CREATE TABLE account (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    sequence INTEGER NOT NULL,
    last_part INTEGER NOT NULL,
    reserved_until INTEGER NOT NULL,
    seen INTEGER NOT NULL,
    passed INTEGER NOT NULL,
    confirmed INTEGER NOT NULL,
    unconfirmed INTEGER NOT NULL,
    collateral INTEGER NOT NULL,
    escaped INTEGER NOT NULL,
    unaccounted INTEGER NOT NULL,
    in_flight INTEGER NOT NULL,
    late INTEGER NOT NULL
);
INSERT INTO account VALUES (1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);

-- One row per start of `elek run` or `elek demo`.
CREATE TABLE runs (
    run INTEGER PRIMARY KEY,
    elek TEXT NOT NULL,                 -- version of the program
    station TEXT,
    started_ms INTEGER NOT NULL,
    started_us INTEGER NOT NULL,
    ended_ms INTEGER,                   -- empty: did not end on purpose
    first_part INTEGER NOT NULL,        -- numbers of this run start here
    found_in_flight INTEGER NOT NULL,   -- on the belt when the run before ended
    found_lost INTEGER NOT NULL,        -- seen, but their records are gone
    power_loss INTEGER NOT NULL,
    skipped_from INTEGER,               -- reserved numbers without a record after a power loss
    skipped_to INTEGER
);

-- The recipes as they were in a run; `rules` is the JSON list of reject_if.
CREATE TABLE recipes (
    run INTEGER NOT NULL,
    recipe INTEGER NOT NULL,
    name TEXT NOT NULL,
    reject_if TEXT NOT NULL,
    PRIMARY KEY (run, recipe)
) WITHOUT ROWID;

CREATE TABLE parts (
    part INTEGER PRIMARY KEY,
    sequence INTEGER,                   -- empty: its record is gone
    run INTEGER NOT NULL,
    lane INTEGER,
    recipe INTEGER,
    seen_us INTEGER,
    position_um INTEGER,
    verdict TEXT,                       -- pass, reject, unsure, no_result
    detail TEXT,                        -- why there is no result
    rule INTEGER,                       -- which of reject_if held
    measured REAL,
    will_reject INTEGER,
    late INTEGER,
    judged_us INTEGER,
    margin_us INTEGER,
    pulse INTEGER,
    on_us INTEGER,
    off_us INTEGER,
    fate TEXT,                          -- passed, confirmed, unconfirmed, collateral, escaped, unaccounted
    fate_detail TEXT,                   -- verified; why unaccounted
    ended_us INTEGER
);
CREATE INDEX parts_on_the_belt ON parts (part) WHERE fate IS NULL;

CREATE TABLE pulses (
    sequence INTEGER PRIMARY KEY,
    run INTEGER NOT NULL,
    pulse INTEGER NOT NULL,
    planned_on_us INTEGER NOT NULL,
    actual_on_us INTEGER NOT NULL,
    planned_off_us INTEGER NOT NULL,
    actual_off_us INTEGER NOT NULL
);

CREATE TABLE alarms (
    sequence INTEGER PRIMARY KEY,
    run INTEGER NOT NULL,
    alarm TEXT NOT NULL,
    raised INTEGER NOT NULL,            -- 1 raised, 0 cleared
    at_us INTEGER NOT NULL
);

-- Strays, acknowledgements, changeovers, permit, start and end.
CREATE TABLE events (
    sequence INTEGER PRIMARY KEY,
    run INTEGER NOT NULL,
    event TEXT NOT NULL,
    detail TEXT,
    at_us INTEGER NOT NULL
);

-- Rejected parts in words, with the wall clock reckoned from the start of the run.
CREATE VIEW rejected AS
SELECT p.part, p.run, r.name AS recipe,
       datetime((s.started_ms + (p.seen_us - s.started_us) / 1000) / 1000, 'unixepoch') AS seen_utc,
       p.verdict, coalesce(json_extract(r.reject_if, '$[' || p.rule || ']'), p.detail) AS why,
       round(p.measured, 3) AS measured, p.fate
FROM parts p
JOIN runs s ON s.run = p.run
LEFT JOIN recipes r ON r.run = p.run AND r.recipe = p.recipe
WHERE p.fate IN ('confirmed', 'unconfirmed', 'collateral', 'escaped');
