//! How the ranks reach each other.

use crate::RanksError;

/// The connections of one rank to the others. All ranks call the same operations in the same order. When a rank is gone,
/// the operations of the others fail.
pub trait Exchange: Send + Sync {
    /// Number of this rank, from 0.
    fn rank(&self) -> usize;

    /// Number of ranks.
    fn size(&self) -> usize;

    /// The bytes of rank 0, at every rank; the others pass none.
    ///
    /// # Errors
    /// [`RanksError::Lost`] when another rank is gone.
    fn broadcast(&self, bytes: Vec<u8>) -> Result<Vec<u8>, RanksError>;

    /// Every rank's bytes, in the order of ranks, at rank 0; `None` at the others.
    ///
    /// # Errors
    /// [`RanksError::Lost`] when another rank is gone.
    fn gather(&self, bytes: &[u8]) -> Result<Option<Vec<Vec<u8>>>, RanksError>;

    /// One of rank 0's messages at each rank: the first at rank 0, and so on. Rank 0 passes as many as there are ranks, the
    /// others none.
    ///
    /// # Errors
    /// [`RanksError::Lost`] when another rank is gone.
    fn scatter(&self, messages: Vec<Vec<u8>>) -> Result<Vec<u8>, RanksError>;
}
