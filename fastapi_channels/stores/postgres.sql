-- The state of `PostgresStore`: tables, and a function for each call, which is one row of answer.
--
-- Texts are bytea: a text of PostgreSQL has no NUL. Times are microseconds since 1970 by the clock of the
-- server. Whoever locks rooms does it in their order: calls that go together are sorted by it. A room's
-- occupants are locked by an advisory lock, because their row in `rooms` comes and goes; its history is locked
-- by its row, a lease by its row before any room.

CREATE TABLE IF NOT EXISTS version (number integer NOT NULL);

CREATE TABLE IF NOT EXISTS leases (
    namespace bytea, node bytea, token bigint NOT NULL, until bigint NOT NULL, PRIMARY KEY (namespace, node));
CREATE TABLE IF NOT EXISTS ended (
    namespace bytea, node bytea, token bigint, PRIMARY KEY (namespace, node, token));

CREATE TABLE IF NOT EXISTS rooms (
    namespace bytea, room bytea, version bigint NOT NULL, last bigint NOT NULL, occupied bigint NOT NULL,
    PRIMARY KEY (namespace, room));
CREATE TABLE IF NOT EXISTS occupants (
    namespace bytea, room bytea, id bytea, node bytea NOT NULL, token bigint NOT NULL,
    person bytea, seat bytea NOT NULL, data bytea NOT NULL, since bigint NOT NULL,
    PRIMARY KEY (namespace, room, id));
CREATE INDEX IF NOT EXISTS occupants_by_node ON occupants (namespace, node, room);
CREATE INDEX IF NOT EXISTS occupants_by_person ON occupants (namespace, room, person);

-- `stale` is when no record is young enough any more, `ends` when all is forgotten; both may be late.
CREATE TABLE IF NOT EXISTS histories (
    namespace bytea, room bytea, epoch text NOT NULL, top bigint NOT NULL, first bigint NOT NULL,
    size bigint NOT NULL, stale bigint NOT NULL, ends bigint NOT NULL, PRIMARY KEY (namespace, room));
CREATE INDEX IF NOT EXISTS histories_by_stale ON histories (stale);
CREATE INDEX IF NOT EXISTS histories_by_ends ON histories (ends);
CREATE TABLE IF NOT EXISTS records (
    namespace bytea, room bytea, place bigint, at bigint NOT NULL, size bigint NOT NULL, content bytea NOT NULL,
    PRIMARY KEY (namespace, room, place));
CREATE TABLE IF NOT EXISTS used (
    namespace bytea, room bytea, key bytea, epoch text NOT NULL, place bigint NOT NULL, ends bigint NOT NULL,
    PRIMARY KEY (namespace, room, key));
CREATE INDEX IF NOT EXISTS used_by_ends ON used (ends);
CREATE TABLE IF NOT EXISTS claims (
    namespace bytea, key bytea, owner bytea NOT NULL, outcome bytea, ends bigint NOT NULL,
    PRIMARY KEY (namespace, key));
CREATE INDEX IF NOT EXISTS claims_by_ends ON claims (ends);
CREATE TABLE IF NOT EXISTS values_that_end (
    namespace bytea, key bytea, value bytea NOT NULL, ends bigint NOT NULL,
    PRIMARY KEY (namespace, key));
CREATE INDEX IF NOT EXISTS values_by_ends ON values_that_end (ends);

DO $$ BEGIN
    CREATE TYPE taken AS (
        rooms bytea[], ids bytea[], people bytea[], seats bytea[], datas bytea[], sinces bigint[]);
EXCEPTION WHEN duplicate_object THEN NULL; END $$;

CREATE OR REPLACE FUNCTION now_us() RETURNS bigint LANGUAGE sql VOLATILE AS
$$ SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint $$;

CREATE OR REPLACE FUNCTION lock_room(_namespace bytea, _room bytea) RETURNS void LANGUAGE sql VOLATILE AS
$$ SELECT pg_advisory_xact_lock(hashtextextended(encode(_namespace, 'hex') || ' ' || encode(_room, 'hex'), 0)) $$;

-- Leases

CREATE OR REPLACE FUNCTION renew(
    _namespace bytea, _node bytea, _given bigint, _lasts bigint, OUT _token bigint, OUT _until bigint)
LANGUAGE plpgsql AS $$
DECLARE held leases; _now bigint;
BEGIN
    LOOP
        SELECT * INTO held FROM leases WHERE namespace = _namespace AND node = _node FOR UPDATE;
        _now := now_us();
        EXIT WHEN FOUND;
        INSERT INTO leases VALUES (_namespace, _node, greatest(_now, _given + 1), _now + _lasts)
            ON CONFLICT DO NOTHING RETURNING token, until INTO _token, _until;
        IF FOUND THEN RETURN; END IF;
    END LOOP;
    _token := held.token;
    IF held.until <= _now THEN
        INSERT INTO ended VALUES (_namespace, _node, held.token) ON CONFLICT DO NOTHING;
        _token := greatest(_now, _given + 1, held.token + 1);
    END IF;
    _until := _now + _lasts;
    UPDATE leases SET token = _token, until = _until WHERE namespace = _namespace AND node = _node;
END $$;

-- One batch of rooms, cleared of what was entered under one lease that has ended; of the given one, which is
-- ended now, or of any. `_lefts` are the rooms that something was taken out of.
CREATE OR REPLACE FUNCTION clear(
    _namespace bytea, _node bytea, _given bigint, _batch integer,
    OUT _more boolean, OUT _lefts bytea[], OUT _versions bigint[], OUT _gone taken)
LANGUAGE plpgsql AS $$
DECLARE _lease ended; _rooms bytea[]; _room bytea; _version bigint; _part taken;
BEGIN
    IF _node IS NOT NULL THEN
        WITH gone AS (
            DELETE FROM leases WHERE namespace = _namespace AND node = _node AND token = _given RETURNING *)
        INSERT INTO ended SELECT namespace, node, token FROM gone ON CONFLICT DO NOTHING;
    ELSE
        WITH past AS (
            SELECT node FROM leases WHERE namespace = _namespace AND until <= now_us() FOR UPDATE SKIP LOCKED),
        gone AS (
            DELETE FROM leases USING past WHERE namespace = _namespace AND leases.node = past.node
            RETURNING leases.*)
        INSERT INTO ended SELECT namespace, node, token FROM gone ON CONFLICT DO NOTHING;
    END IF;
    SELECT * INTO _lease FROM ended
        WHERE namespace = _namespace AND (_node IS NULL OR (node = _node AND token = _given))
        LIMIT 1 FOR UPDATE SKIP LOCKED;
    _more := FOUND;
    IF NOT _more THEN RETURN; END IF;
    _rooms := ARRAY(
        SELECT DISTINCT room FROM occupants
        WHERE namespace = _namespace AND node = _lease.node AND token <= _lease.token ORDER BY room LIMIT _batch);
    FOREACH _room IN ARRAY _rooms LOOP
        PERFORM lock_room(_namespace, _room);
        WITH gone AS (
            DELETE FROM occupants WHERE namespace = _namespace AND room = _room AND node = _lease.node
                AND token <= _lease.token RETURNING *)
        SELECT array_agg(room), array_agg(id), array_agg(person), array_agg(seat), array_agg(data),
            array_agg(since) INTO _part FROM gone;
        CONTINUE WHEN _part.ids IS NULL;
        _version := changed(_namespace, _room, NULL, -cardinality(_part.ids));
        _lefts := _lefts || _room;
        _versions := _versions || _version;
        _gone := ROW(_gone.rooms || _part.rooms, _gone.ids || _part.ids, _gone.people || _part.people,
            _gone.seats || _part.seats, _gone.datas || _part.datas, _gone.sinces || _part.sinces);
    END LOOP;
    IF cardinality(_rooms) < _batch THEN
        DELETE FROM ended WHERE namespace = _namespace AND node = _lease.node AND token = _lease.token;
    END IF;
END $$;

-- Who is in a room

-- The room is locked. Its version after one change more, by which so many came, or went. A room that is empty
-- leaves nothing behind: the version that it begins with again is the time.
CREATE OR REPLACE FUNCTION changed(_namespace bytea, _room bytea, _last bigint, _came bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE _found rooms; _now bigint := now_us();
BEGIN
    INSERT INTO rooms AS held VALUES (_namespace, _room, _now + 1, coalesce(_last, 0), _came)
        ON CONFLICT (namespace, room) DO UPDATE SET
            version = held.version + 1, last = coalesce(_last, held.last), occupied = held.occupied + _came
        RETURNING * INTO _found;
    IF _found.occupied <= 0 THEN
        DELETE FROM rooms WHERE namespace = _namespace AND room = _room;
    END IF;
    RETURN _found.version;
END $$;

-- No version where the lease has ended. A verdict for each occupant: i(n), s(ame as it was), f(ull), o(ver).
CREATE OR REPLACE FUNCTION enter(
    _namespace bytea, _room bytea, _node bytea, _given bigint, _until bigint,
    _ids bytea[], _people bytea[], _seats bytea[], _datas bytea[],
    _places bigint, _per_user bigint, _displaces boolean,
    OUT _version bigint, OUT _verdicts text, OUT _sinces bigint[], OUT _gone taken)
LANGUAGE plpgsql AS $$
DECLARE _before rooms; _old occupants; _now bigint; _last bigint; _leaving bytea[]; _part taken;
    _held bigint; _shared boolean; _came bigint := 0; _differs boolean := false; _verdict text;
BEGIN
    PERFORM 1 FROM leases
        WHERE namespace = _namespace AND node = _node AND token = _given FOR KEY SHARE;
    IF NOT FOUND THEN RETURN; END IF;
    PERFORM lock_room(_namespace, _room);
    _now := now_us();
    IF _until <= _now THEN RETURN; END IF;
    SELECT * INTO _before FROM rooms WHERE namespace = _namespace AND room = _room;
    _version := coalesce(_before.version, _now);
    _last := coalesce(_before.last, 0);
    _verdicts := '';
    FOR i IN 1 .. cardinality(_ids) LOOP
        SELECT * INTO _old FROM occupants WHERE namespace = _namespace AND room = _room AND id = _ids[i];
        IF FOUND THEN
            _verdict := 's';
            IF (_old.person, _old.seat, _old.data) IS DISTINCT FROM (_people[i], _seats[i], _datas[i]) THEN
                _differs := true;
                _verdict := 'i';
            END IF;
            UPDATE occupants SET person = _people[i], seat = _seats[i], data = _datas[i], token = _given
                WHERE namespace = _namespace AND room = _room AND id = _ids[i]
                    AND (person, seat, data, token) IS DISTINCT FROM (_people[i], _seats[i], _datas[i], _given);
            _verdicts := _verdicts || _verdict;
            _sinces := _sinces || _old.since;
            CONTINUE;
        END IF;
        _leaving := '{}';
        IF _per_user IS NOT NULL AND _people[i] IS NOT NULL THEN
            _leaving := ARRAY(
                SELECT id FROM occupants WHERE namespace = _namespace AND room = _room AND person = _people[i]
                ORDER BY since);
            _leaving := _leaving[1 : greatest(0, cardinality(_leaving) - _per_user + 1)];
        END IF;
        _verdict := 'i';
        IF cardinality(_leaving) > 0 AND NOT _displaces THEN
            _verdict := 'o';
        ELSIF _places IS NOT NULL THEN
            SELECT count(DISTINCT seat), coalesce(bool_or(seat = _seats[i]), false) INTO _held, _shared
                FROM occupants WHERE namespace = _namespace AND room = _room AND id <> ALL (_leaving);
            IF NOT _shared AND _held >= _places THEN _verdict := 'f'; END IF;
        END IF;
        _verdicts := _verdicts || _verdict;
        IF _verdict <> 'i' THEN
            _sinces := _sinces || NULL::bigint;
            CONTINUE;
        END IF;
        IF cardinality(_leaving) > 0 THEN
            _part := take(_namespace, _room, _leaving);
            _came := _came - cardinality(_part.ids);
            _gone := ROW(_gone.rooms || _part.rooms, _gone.ids || _part.ids, _gone.people || _part.people,
                _gone.seats || _part.seats, _gone.datas || _part.datas, _gone.sinces || _part.sinces);
        END IF;
        _last := greatest(_now, _last + 1);
        INSERT INTO occupants VALUES (
            _namespace, _room, _ids[i], _node, _given, _people[i], _seats[i], _datas[i], _last);
        _sinces := _sinces || _last;
        _came := _came + 1;
        _differs := true;
    END LOOP;
    IF _differs THEN _version := changed(_namespace, _room, _last, _came); END IF;
END $$;

CREATE OR REPLACE FUNCTION take(_namespace bytea, _room bytea, _ids bytea[]) RETURNS taken LANGUAGE sql VOLATILE
AS $$
    WITH gone AS (
        DELETE FROM occupants WHERE namespace = _namespace AND room = _room AND id = ANY (_ids) RETURNING *)
    SELECT array_agg(room ORDER BY since), array_agg(id ORDER BY since), array_agg(person ORDER BY since),
        array_agg(seat ORDER BY since), array_agg(data ORDER BY since), array_agg(since ORDER BY since) FROM gone
$$;

CREATE OR REPLACE FUNCTION leave(
    _namespace bytea, _room bytea, _ids bytea[], OUT _version bigint, OUT _gone taken)
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM lock_room(_namespace, _room);
    _gone := take(_namespace, _room, _ids);
    IF _gone.ids IS NOT NULL THEN
        _version := changed(_namespace, _room, NULL, -cardinality(_gone.ids));
    ELSE
        _version := version_of(_namespace, _room);
    END IF;
END $$;

CREATE OR REPLACE FUNCTION version_of(_namespace bytea, _room bytea) RETURNS bigint LANGUAGE sql VOLATILE AS
$$ SELECT coalesce((SELECT version FROM rooms WHERE namespace = _namespace AND room = _room), now_us()) $$;

CREATE OR REPLACE FUNCTION headcount(_namespace bytea, _room bytea, OUT _occupied bigint) LANGUAGE sql STABLE AS
$$ SELECT coalesce((SELECT occupied FROM rooms WHERE namespace = _namespace AND room = _room), 0) $$;

CREATE OR REPLACE FUNCTION count_people(_namespace bytea, _room bytea, OUT _people bigint) LANGUAGE sql STABLE AS
$$
    SELECT count(DISTINCT (person, CASE WHEN person IS NULL THEN id END)) FROM occupants
    WHERE namespace = _namespace AND room = _room AND data <> ''
$$;

-- One statement, and so one state of the room.
CREATE OR REPLACE FUNCTION occupancy(
    _namespace bytea, _room bytea, _first bigint, _limit bigint,
    OUT _version bigint, OUT _total bigint, OUT _part taken)
LANGUAGE sql VOLATILE AS $$
    SELECT version_of, total, ROW(rooms, ids, people, seats, datas, sinces)::taken FROM (
        SELECT coalesce(
                (SELECT version FROM rooms WHERE namespace = _namespace AND room = _room), now_us()) AS version_of,
            coalesce((SELECT occupied FROM rooms WHERE namespace = _namespace AND room = _room), 0) AS total,
            array_agg(room) AS rooms, array_agg(id ORDER BY since) AS ids,
            array_agg(person ORDER BY since) AS people, array_agg(seat ORDER BY since) AS seats,
            array_agg(data ORDER BY since) AS datas, array_agg(since ORDER BY since) AS sinces
        FROM (SELECT * FROM occupants WHERE namespace = _namespace AND room = _room
            ORDER BY since OFFSET _first LIMIT _limit) AS part) AS found
$$;

-- What was published

-- The history of a room, begun where there is none, or where it is behind what somebody has seen. Locked
-- where it is changed, or is to be. Where nothing was published, and nothing is to be, it is remembered as long
-- as UNUSED in memory.py says.
CREATE OR REPLACE FUNCTION history(
    _namespace bytea, _room bytea, _new text, _known_epoch text, _known bigint, _remembered bigint,
    _locked boolean) RETURNS histories LANGUAGE plpgsql AS $$
DECLARE _now bigint := now_us(); _found histories; _ends bigint := _now + _remembered; _short bigint := _ends;
BEGIN
    IF NOT _locked THEN
        _short := _now + least(_remembered, 300000000);
        SELECT * INTO _found FROM histories WHERE namespace = _namespace AND room = _room;
        IF FOUND AND _found.ends >= (CASE _found.top WHEN 0 THEN _short ELSE _ends END) - 60000000
            AND (_found.epoch = _known_epoch AND _known > _found.top) IS NOT TRUE
        THEN
            RETURN _found;
        END IF;
    END IF;
    LOOP
        SELECT * INTO _found FROM histories WHERE namespace = _namespace AND room = _room FOR UPDATE;
        EXIT WHEN FOUND;
        INSERT INTO histories VALUES (_namespace, _room, _new, 0, 1, 0, 0, _short)
            ON CONFLICT DO NOTHING RETURNING * INTO _found;
        IF FOUND THEN RETURN _found; END IF;
    END LOOP;
    IF _found.top = 0 THEN _ends := _short; END IF;
    IF _found.ends <= _now OR (_found.epoch = _known_epoch AND _known > _found.top) THEN
        DELETE FROM records WHERE namespace = _namespace AND room = _room;
        UPDATE histories SET epoch = _new, top = 0, first = 1, size = 0, ends = _short
            WHERE namespace = _namespace AND room = _room RETURNING * INTO _found;
    ELSIF _found.ends < _ends - 60000000 THEN
        UPDATE histories SET ends = _ends
            WHERE namespace = _namespace AND room = _room RETURNING * INTO _found;
    END IF;
    RETURN _found;
END $$;

CREATE OR REPLACE FUNCTION is_over(
    _history histories, _messages bigint, _bytes bigint, _window bigint, OUT _over boolean, OUT _size bigint)
LANGUAGE plpgsql AS $$
DECLARE _at bigint;
BEGIN
    _over := false;
    IF _history.first > _history.top THEN RETURN; END IF;
    SELECT at, size INTO _at, _size FROM records
        WHERE namespace = _history.namespace AND room = _history.room AND place = _history.first;
    _over := _history.top - _history.first >= _messages OR _at <= now_us() - _window
        OR (_history.size > _bytes AND _history.first < _history.top);
END $$;

-- The history is locked.
CREATE OR REPLACE FUNCTION trimmed(_history histories, _messages bigint, _bytes bigint, _window bigint)
RETURNS histories LANGUAGE plpgsql AS $$
DECLARE _oldest record;
BEGIN
    LOOP
        _oldest := is_over(_history, _messages, _bytes, _window);
        EXIT WHEN NOT _oldest._over;
        DELETE FROM records
            WHERE namespace = _history.namespace AND room = _history.room AND place = _history.first;
        _history.first := _history.first + 1;
        _history.size := _history.size - _oldest._size;
    END LOOP;
    UPDATE histories SET top = _history.top, first = _history.first, size = _history.size,
        stale = CASE WHEN stale < now_us() + _window THEN now_us() + _window + 60000000 ELSE stale END
        WHERE namespace = _history.namespace AND room = _history.room;
    RETURN _history;
END $$;

CREATE OR REPLACE FUNCTION append(
    _namespace bytea, _room bytea, _new text, _known_epoch text, _known bigint, _remembered bigint,
    _messages bigint, _bytes bigint, _window bigint, _size bigint, _content bytea, _key bytea, _lasts bigint,
    OUT _epoch text, OUT _place bigint, OUT _is_new boolean)
LANGUAGE plpgsql AS $$
DECLARE _history histories; _now bigint;
BEGIN
    _history := history(_namespace, _room, _new, _known_epoch, _known, _remembered, true);
    _now := now_us();
    _is_new := true;
    IF _key IS NOT NULL THEN
        SELECT epoch, place, false INTO _epoch, _place, _is_new FROM used
            WHERE namespace = _namespace AND room = _room AND key = _key AND ends > _now;
        IF FOUND THEN RETURN; END IF;
        _is_new := true;
    END IF;
    _history.top := _history.top + 1;
    _history.size := _history.size + _size;
    _epoch := _history.epoch;
    _place := _history.top;
    INSERT INTO records VALUES (_namespace, _room, _place, _now, _size, _content);
    PERFORM trimmed(_history, _messages, _bytes, _window);
    IF _key IS NOT NULL THEN
        INSERT INTO used VALUES (_namespace, _room, _key, _epoch, _place, _now + _lasts)
            ON CONFLICT (namespace, room, key) DO UPDATE
            SET epoch = excluded.epoch, place = excluded.place, ends = excluded.ends;
    END IF;
END $$;

CREATE OR REPLACE FUNCTION read(
    _namespace bytea, _room bytea, _new text, _remembered bigint, _messages bigint, _bytes bigint, _window bigint,
    _after bigint, _before bigint, _limit bigint, _reverse boolean,
    OUT _epoch text, OUT _top bigint, OUT _first bigint,
    OUT _places bigint[], OUT _times bigint[], OUT _contents bytea[])
LANGUAGE plpgsql AS $$
DECLARE _history histories; _lowest bigint; _highest bigint; _oldest record;
BEGIN
    _history := history(_namespace, _room, _new, NULL, NULL, _remembered, false);
    _oldest := is_over(_history, _messages, _bytes, _window);
    IF _oldest._over THEN
        _history := history(_namespace, _room, _new, NULL, NULL, _remembered, true);
        _history := trimmed(_history, _messages, _bytes, _window);
    END IF;
    _epoch := _history.epoch;
    _top := _history.top;
    _first := _history.first;
    _lowest := greatest(_after + 1, _first);
    _highest := least(_before - 1, _top);
    IF _reverse THEN
        _lowest := greatest(_lowest, _highest - _limit + 1);
    ELSE
        _highest := least(_highest, _lowest + _limit - 1);
    END IF;
    SELECT array_agg(place ORDER BY place), array_agg(at ORDER BY place), array_agg(content ORDER BY place)
        INTO _places, _times, _contents FROM records
        WHERE namespace = _namespace AND room = _room AND place BETWEEN _lowest AND _highest;
END $$;

CREATE OR REPLACE FUNCTION top(
    _namespace bytea, _room bytea, _new text, _known_epoch text, _known bigint, _remembered bigint,
    OUT _epoch text, OUT _top bigint)
LANGUAGE plpgsql AS $$
DECLARE _history histories;
BEGIN
    _history := history(_namespace, _room, _new, _known_epoch, _known, _remembered, false);
    _epoch := _history.epoch;
    _top := _history.top;
END $$;

-- Keys that were used

CREATE OR REPLACE FUNCTION claim(
    _namespace bytea, _key bytea, _owner bytea, _lasts bigint, OUT _state text, OUT _outcome bytea)
LANGUAGE plpgsql AS $$
DECLARE _held claims; _now bigint;
BEGIN
    _state := 'new';
    LOOP
        INSERT INTO claims VALUES (_namespace, _key, _owner, NULL, now_us() + _lasts) ON CONFLICT DO NOTHING;
        IF FOUND THEN RETURN; END IF;
        SELECT * INTO _held FROM claims WHERE namespace = _namespace AND key = _key FOR UPDATE;
        EXIT WHEN FOUND;
    END LOOP;
    _now := now_us();
    IF _held.ends <= _now OR (_held.owner = _owner AND _held.outcome IS NULL) THEN
        UPDATE claims SET owner = _owner, outcome = NULL, ends = _now + _lasts
            WHERE namespace = _namespace AND key = _key;
    ELSE
        _state := CASE WHEN _held.outcome IS NULL THEN 'running' ELSE 'done' END;
        _outcome := _held.outcome;
    END IF;
END $$;

CREATE OR REPLACE FUNCTION settle(
    _namespace bytea, _key bytea, _owner bytea, _told bytea, _lasts bigint, OUT _done boolean)
LANGUAGE plpgsql AS $$
BEGIN
    IF _told IS NULL THEN
        DELETE FROM claims WHERE namespace = _namespace AND key = _key AND owner = _owner AND ends > now_us();
    ELSE
        UPDATE claims SET outcome = _told, ends = now_us() + _lasts
            WHERE namespace = _namespace AND key = _key AND owner = _owner AND ends > now_us();
    END IF;
    _done := FOUND;
END $$;

-- Values that end

CREATE OR REPLACE FUNCTION put(
    _namespace bytea, _key bytea, _value bytea, _lasts bigint, OUT _done boolean)
LANGUAGE sql AS $$
    INSERT INTO values_that_end VALUES (_namespace, _key, _value, now_us() + _lasts)
    ON CONFLICT (namespace, key) DO UPDATE SET value = excluded.value, ends = excluded.ends RETURNING true
$$;

CREATE OR REPLACE FUNCTION get(_namespace bytea, _key bytea, OUT _value bytea) LANGUAGE sql AS $$
    SELECT value FROM values_that_end WHERE namespace = _namespace AND key = _key AND ends > now_us()
$$;

CREATE OR REPLACE FUNCTION take(_namespace bytea, _key bytea, OUT _value bytea) LANGUAGE sql AS $$
    DELETE FROM values_that_end WHERE namespace = _namespace AND key = _key AND ends > now_us() RETURNING value
$$;

-- What has had its time, a bounded part of it.
CREATE OR REPLACE FUNCTION prune(_most integer, OUT _pruned bigint) LANGUAGE plpgsql AS $$
DECLARE _now bigint := now_us(); _old histories;
BEGIN
    _pruned := 0;
    DELETE FROM used WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM used WHERE ends <= _now LIMIT _most FOR UPDATE SKIP LOCKED));
    DELETE FROM claims WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM claims WHERE ends <= _now LIMIT _most FOR UPDATE SKIP LOCKED));
    DELETE FROM values_that_end WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM values_that_end WHERE ends <= _now LIMIT _most FOR UPDATE SKIP LOCKED));
    FOR _old IN SELECT * FROM histories WHERE stale <= _now AND first <= top LIMIT _most FOR UPDATE SKIP LOCKED LOOP
        DELETE FROM records WHERE namespace = _old.namespace AND room = _old.room;
        UPDATE histories SET first = top + 1, size = 0 WHERE namespace = _old.namespace AND room = _old.room;
        _pruned := _pruned + 1;
    END LOOP;
    FOR _old IN SELECT * FROM histories WHERE ends <= _now LIMIT _most FOR UPDATE SKIP LOCKED LOOP
        DELETE FROM records WHERE namespace = _old.namespace AND room = _old.room;
        DELETE FROM histories WHERE namespace = _old.namespace AND room = _old.room;
        _pruned := _pruned + 1;
    END LOOP;
END $$;
