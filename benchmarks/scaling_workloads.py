"""Ten workloads that grow in different ways; each names its size by the parameter ``rows``."""

from typing import Final

_NUMBERS: Final = """\
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < /*@rows*/ 1000)
"""

POINTS: Final = f"""\
CREATE TABLE account (id INTEGER PRIMARY KEY, owner TEXT, balance INTEGER);
{_NUMBERS}INSERT INTO account SELECT i, 'owner ' || i, i * 37 % 1000 FROM n;
SELECT owner, balance FROM account WHERE id = /*@rows*/ 1000 / 3;
UPDATE account SET balance = balance + 1 WHERE id = /*@rows*/ 1000 / 2;
"""

RANDOM_KEYS: Final = f"""\
CREATE TABLE visit (id INTEGER PRIMARY KEY, page TEXT, at INTEGER);
CREATE INDEX visit_page ON visit (page);
{_NUMBERS}INSERT INTO visit (page, at) SELECT hex(randomblob(8)), i FROM n;
SELECT count(*) FROM visit WHERE page BETWEEN 'A' AND 'B';
"""

TEXT_KEYS: Final = f"""\
CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
{_NUMBERS}INSERT INTO setting SELECT printf('user/%08d/theme', i * 7919 % 1000003), 'dark' FROM n;
SELECT value FROM setting WHERE name = 'user/00007919/theme';
SELECT count(*) FROM setting;
"""

JOIN: Final = f"""\
CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE purchase (id INTEGER PRIMARY KEY, customer INTEGER, cents INTEGER);
{_NUMBERS}INSERT INTO customer SELECT i, 'customer ' || i FROM n WHERE i % 10 = 0;
{_NUMBERS}INSERT INTO purchase SELECT i, 10 * (i * 31 % (/*@rows*/ 1000 / 10)), i FROM n;
CREATE INDEX purchase_customer ON purchase (customer);
SELECT name, sum(cents) FROM customer JOIN purchase ON customer = customer.id
  WHERE customer.id = 10 * (/*@rows*/ 1000 / 20);
SELECT count(*), sum(cents) FROM customer JOIN purchase ON customer = customer.id;
"""

GROUPS: Final = f"""\
CREATE TABLE reading (sensor INTEGER, value REAL);
{_NUMBERS}INSERT INTO reading SELECT i * 7 % 97, i * 0.25 FROM n;
SELECT sensor, avg(value), max(value) FROM reading GROUP BY sensor;
SELECT sensor, value FROM reading ORDER BY value DESC, sensor LIMIT 10;
"""

FULL_TEXT: Final = f"""\
CREATE VIRTUAL TABLE post USING fts5(body);
{_NUMBERS}INSERT INTO post
  SELECT 'word' || (i % 101) || ' other' || (i % 13) || ' rare' || i FROM n;
SELECT count(*) FROM post WHERE post MATCH 'word7';
SELECT rowid FROM post WHERE post MATCH 'rare77' LIMIT 5;
"""

DOCUMENTS: Final = f"""\
CREATE TABLE document (id INTEGER PRIMARY KEY, body TEXT);
{_NUMBERS}INSERT INTO document
  SELECT i, json_object('name', 'n' || i, 'tags', json_array(i % 5, i % 7), 'size', i) FROM n;
CREATE INDEX document_size ON document (json_extract(body, '$.size'));
SELECT count(*) FROM document WHERE json_extract(body, '$.size') > /*@rows*/ 1000 / 2;
SELECT avg(json_extract(body, '$.tags[0]')) FROM document;
"""

LOG: Final = f"""\
CREATE TABLE entry (id INTEGER PRIMARY KEY, text TEXT);
{_NUMBERS}INSERT INTO entry SELECT i, printf('entry %06d of the log, which is short', i) FROM n;
DELETE FROM entry WHERE id <= /*@rows*/ 1000 / 2;
{_NUMBERS}INSERT INTO entry (text) SELECT 'one more' FROM n WHERE i % 4 = 0;
SELECT count(*) FROM entry;
"""

PAIRS: Final = """\
CREATE TABLE place (x INTEGER, y INTEGER);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < /*@rows*/ 1000 / 50)
INSERT INTO place SELECT i * 13 % 101, i * 29 % 103 FROM n;
SELECT count(*) FROM place a, place b WHERE abs(a.x - b.x) + abs(a.y - b.y) < 3;
"""

GRAPH: Final = f"""\
CREATE TABLE edge (source INTEGER, target INTEGER, PRIMARY KEY (source, target)) WITHOUT ROWID;
{_NUMBERS}INSERT INTO edge SELECT i / 2, i FROM n WHERE i > 1;
WITH RECURSIVE below(node) AS
  (SELECT 1 UNION SELECT target FROM below JOIN edge ON source = node)
SELECT count(*) FROM below;
SELECT count(*) FROM edge WHERE source = /*@rows*/ 1000 / 4;
"""

WORKLOADS: Final = {
    "points by row number": POINTS,
    "random keys in an index": RANDOM_KEYS,
    "text keys without row numbers": TEXT_KEYS,
    "join by an index": JOIN,
    "groups and a sort": GROUPS,
    "full text": FULL_TEXT,
    "JSON documents": DOCUMENTS,
    "a log that is cut": LOG,
    "pairs, which are quadratic": PAIRS,
    "a graph, recursively": GRAPH,
}
"""Scripts by what they are."""
