//! Meta-judge: every two judgments in both orders, weighted against position bias
