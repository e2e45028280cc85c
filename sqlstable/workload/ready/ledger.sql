-- a transfer between two of N accounts, with a row in the journal
--
-- One message moves money by key and writes down that it did. Which accounts goes by the number of
-- the transfer, in steps that meet all of them, near and far.

CREATE TABLE account (
  id INTEGER PRIMARY KEY,
  owner TEXT NOT NULL,
  balance INTEGER NOT NULL CHECK (balance >= 0)
);
CREATE TABLE journal (
  id INTEGER PRIMARY KEY,
  source INTEGER NOT NULL,
  target INTEGER NOT NULL,
  amount INTEGER NOT NULL
);

--@ label open the accounts
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < /*@entities*/ 1000)
INSERT INTO account SELECT i, printf('account %07d', i), 1000000 FROM n;

--@ label transfer
--@ repeat 5
BEGIN;
INSERT INTO journal
SELECT
  n,
  n * 7919 % /*@entities*/ 1000 + 1,
  (n * 7919 + 1 + n * 104729 % max(/*@entities*/ 1000 - 1, 1)) % /*@entities*/ 1000 + 1,
  n % 90 + 10
FROM (SELECT coalesce(max(id), 0) + 1 AS n FROM journal);
UPDATE account SET balance = balance - amount FROM journal
WHERE journal.id = (SELECT max(id) FROM journal) AND account.id = source;
UPDATE account SET balance = balance + amount FROM journal
WHERE journal.id = (SELECT max(id) FROM journal) AND account.id = target;
COMMIT;

--@ label balance
SELECT balance FROM account WHERE id = /*@entities*/ 1000 / 2;
