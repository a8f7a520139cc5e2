//! Task: small list puzzles with an exact oracle
