-- A first look: one query before and after an index, and an upgrade.
CREATE TABLE track (id INTEGER PRIMARY KEY, artist TEXT, title TEXT, seconds INTEGER);

--@ label load 20 000 tracks
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
INSERT INTO track SELECT i, 'artist ' || (i * 7919 % 500), 'title ' || i, 120 + i % 200 FROM n;

--@ label point read
SELECT title FROM track WHERE id = 4711;

--@ label without an index
SELECT count(*), sum(seconds) FROM track WHERE artist = 'artist 42';

CREATE INDEX track_artist ON track (artist, seconds);

--@ label with an index
SELECT count(*), sum(seconds) FROM track WHERE artist = 'artist 42';

--@ upgrade

--@ label after the upgrade
SELECT count(*), sum(seconds) FROM track WHERE artist = 'artist 42';
