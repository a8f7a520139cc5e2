//! Rubric: five points added up, read from the last line of the judgment
