//! Ranker: Elo ratings by maximum likelihood
