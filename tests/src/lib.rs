//! End-to-end, crash, parity and command-line tests.
