-- a tick that moves a few of N entities by key, some to another cell
--
-- A map of 64 by 64 cells, with an index that says who is in a cell. Most steps stay within one, so
-- the index is left alone: a column that is set is written to its index even where it stays the same.

CREATE TABLE entity (
  id INTEGER PRIMARY KEY,
  x INTEGER NOT NULL,
  y INTEGER NOT NULL,
  cell INTEGER NOT NULL,
  state TEXT NOT NULL
);
CREATE TABLE world (tick INTEGER NOT NULL);
INSERT INTO world VALUES (0);

--@ label create the entities
WITH RECURSIVE
  n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < /*@entities*/ 1000),
  place (i, x, y) AS (SELECT i, i * 7919 % 4096, i * 104729 % 4096 FROM n)
INSERT INTO entity
SELECT i, x, y, x / 64 * 64 + y / 64, printf('entity %08d idle', i) FROM place;
--@ label index the cells
CREATE INDEX entity_by_cell ON entity (cell);

--@ label tick
--@ repeat 5
BEGIN;
UPDATE world SET tick = tick + 1;
WITH RECURSIVE
  move (k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM move WHERE k < /*@moves*/ 4),
  moved (id) AS (SELECT (tick * 7919 + k * 104729) % /*@entities*/ 1000 + 1 FROM world, move)
UPDATE entity SET x = (x + 7) % 4096, y = (y + 2) % 4096 WHERE id IN (SELECT id FROM moved);
WITH RECURSIVE
  move (k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM move WHERE k < /*@moves*/ 4),
  moved (id) AS (SELECT (tick * 7919 + k * 104729) % /*@entities*/ 1000 + 1 FROM world, move)
UPDATE entity SET cell = x / 64 * 64 + y / 64
WHERE id IN (SELECT id FROM moved) AND cell <> x / 64 * 64 + y / 64;
COMMIT;

--@ label look around
SELECT id, state FROM entity WHERE cell = 2080 LIMIT 20;
