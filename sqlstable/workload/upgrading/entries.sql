-- entries of N rows: looked up by key and by owner, changed, and added to
CREATE TABLE entry (
  id INTEGER PRIMARY KEY,
  owner INTEGER NOT NULL,
  amount INTEGER NOT NULL,
  note TEXT NOT NULL
);
CREATE INDEX entry_by_owner ON entry (owner);

WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < /*@rows*/ 1000)
INSERT INTO entry
SELECT i, i * 7919 % (/*@rows*/ 1000 / 20 + 1), i % 997, printf('note %030d', i * 104729) FROM n;

--@ repeat 20
SELECT owner, amount, note FROM entry WHERE id = 1 + abs(random()) % /*@rows*/ 1000;

--@ repeat 20
SELECT count(*), sum(amount) FROM entry
WHERE owner = (SELECT abs(random()) % (/*@rows*/ 1000 / 20 + 1));

--@ repeat 20
UPDATE entry SET amount = amount + 1 WHERE id = 1 + abs(random()) % /*@rows*/ 1000;

--@ repeat 20
INSERT INTO entry (owner, amount, note)
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10)
SELECT abs(random()) % (/*@rows*/ 1000 / 20 + 1), i, printf('note %030d', random()) FROM n;
