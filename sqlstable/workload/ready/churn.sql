-- new rows come, as many of the oldest go: the file need not grow
--
-- Each message leaves as many rows as it found. What the old ones gave free is what the new ones
-- take; see how much is left with sqlstable reclaim.

CREATE TABLE entry (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, body TEXT NOT NULL);
CREATE INDEX entry_by_at ON entry (at);

--@ label fill
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < /*@rows*/ 1000)
INSERT INTO entry SELECT i, i * 7919 % 86400, printf('entry %0*d', 60 + i * 31 % 80, i) FROM n;

--@ label turn over
--@ repeat 5
BEGIN;
WITH RECURSIVE n (k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM n WHERE k < /*@batch*/ 4)
INSERT INTO entry
SELECT last + k, (last + k) * 7919 % 86400, printf('entry %0*d', 60 + (last + k) * 31 % 80, last + k)
FROM n, (SELECT max(id) AS last FROM entry);
DELETE FROM entry
WHERE id IN (SELECT id FROM entry ORDER BY id LIMIT /*@batch*/ 4);
COMMIT;

--@ label newest
SELECT body FROM entry WHERE id = (SELECT max(id) FROM entry);
