//! Nothing: the test scripts are read where cargo keeps them.
