-- A shop as a workload script: schema, load, queries, an index, sales, an upgrade.
--
--   sqlstable run examples/shop.sql      on simulated stable memory: what each statement touches
--   sqlite3 < examples/shop.sql          the same SQL; there the directives are mere comments
--
-- Each statement alone is one message, a query if it only reads; BEGIN to COMMIT is one update.

CREATE TABLE product (product_id INTEGER PRIMARY KEY, name TEXT NOT NULL, cents INTEGER NOT NULL);
CREATE TABLE customer (customer_id INTEGER PRIMARY KEY, name TEXT NOT NULL, city TEXT NOT NULL);
CREATE TABLE sale (
  sale_id INTEGER PRIMARY KEY,
  customer_id INTEGER NOT NULL REFERENCES customer,
  product_id INTEGER NOT NULL REFERENCES product,
  pieces INTEGER NOT NULL CHECK (pieces > 0)
);

--@ label load
BEGIN;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
INSERT INTO product SELECT i, 'Product ' || i, 100 + i * 37 % 900 FROM n;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
INSERT INTO customer SELECT i, 'Customer ' || i, 'City ' || i * 31 % 40 FROM n;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
INSERT INTO sale SELECT i, 1 + i * 7919 % 2000, 1 + i * 104729 % 500, 1 + i % 3 FROM n;
COMMIT;

--@ label one sale, joined by keys
SELECT customer.name, product.name, pieces
FROM sale JOIN customer USING (customer_id) JOIN product USING (product_id)
WHERE sale_id = 4321;

--@ label what a customer bought, without an index
SELECT product.name, pieces FROM sale JOIN product USING (product_id) WHERE customer_id = 42;

CREATE INDEX sale_by_customer ON sale (customer_id);

--@ label what a customer bought, with an index
--@ repeat 3
SELECT product.name, pieces FROM sale JOIN product USING (product_id) WHERE customer_id = 42;

-- A sale, three times over; sqlite3 makes it once.
--@ label sale
--@ repeat 3
BEGIN;
INSERT INTO sale (customer_id, product_id, pieces) VALUES (42, 7, 1);
SELECT cents FROM product WHERE product_id = 7;
COMMIT;

-- A sale that traps: nothing of it remains, here as there.
--@ label failed sale
BEGIN;
INSERT INTO sale (customer_id, product_id, pieces) VALUES (42, 8, 1000);
--@ trap
ROLLBACK;

-- The heap goes, and SQLite's cache with it; stable memory stays.
--@ upgrade

--@ label after the upgrade
--@ query
SELECT count(*), sum(pieces * cents) FROM sale JOIN product USING (product_id)
WHERE customer_id = 42;
SELECT city, count(*) FROM customer GROUP BY city ORDER BY count(*) DESC, city LIMIT 3;
