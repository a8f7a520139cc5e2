//! Memory for activations that is used again and again.

use crate::error::{Result, TorchError};

/// A cache line of floats.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// Floats that start on a cache line. Their number is what was asked for; what they hold is left over from before.
#[derive(Default)]
pub(crate) struct Buffer {
    lines: Vec<Line>,
    length: usize,
}

impl std::ops::Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: a Line is sixteen floats without padding, and `length` floats are inside of the lines.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.length) }
    }
}

impl std::ops::DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `deref`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.length) }
    }
}

/// Buffers that nobody uses now.
#[derive(Default)]
pub(crate) struct Pool {
    free: Vec<Buffer>,
    /// Bytes of all buffers, those in use included.
    bytes: u64,
    /// Bytes that they may have; 0 for any number.
    limit: u64,
}

impl Pool {
    /// A pool of at most `limit` bytes; 0 for any number.
    pub fn new(limit: u64) -> Self {
        Self { limit, ..Self::default() }
    }

    /// A buffer of `length` floats with any content: the smallest free one that is large enough, else a new one.
    ///
    /// # Errors
    /// [`TorchError::Memory`] when the system has no memory for it.
    pub fn take(&mut self, length: usize) -> Result<Buffer> {
        let lines = length.div_ceil(16);
        let fits = (0..self.free.len()).filter(|&i| self.free[i].lines.len() >= lines);
        if let Some(best) = fits.min_by_key(|&i| self.free[i].lines.len()) {
            let mut buffer = self.free.swap_remove(best);
            buffer.length = length;
            return Ok(buffer);
        }
        // Free buffers that are too small go first: sizes grow when longer texts come.
        if let Some(largest) = (0..self.free.len()).max_by_key(|&i| self.free[i].lines.len()) {
            self.bytes -= 64 * self.free.swap_remove(largest).lines.len() as u64;
        }
        let bytes = 64 * lines as u64;
        let short = |why: &str| {
            TorchError::Memory(format!(
                "{:.1} MB of activations on top of {:.1} MB {why}",
                bytes as f64 / 1e6,
                self.bytes as f64 / 1e6
            ))
        };
        if self.limit > 0 && self.bytes + bytes > self.limit {
            return Err(short(&format!("are more than the limit of {:.1} MB", self.limit as f64 / 1e6)));
        }
        let mut buffer = Vec::new();
        buffer.try_reserve_exact(lines).map_err(|_| short("do not fit the machine's memory"))?;
        buffer.resize(lines, Line([0.0; 16]));
        self.bytes += bytes;
        Ok(Buffer { lines: buffer, length })
    }

    /// A buffer of zeros.
    ///
    /// # Errors
    /// As [`Pool::take`].
    pub fn zeros(&mut self, length: usize) -> Result<Buffer> {
        let mut buffer = self.take(length)?;
        buffer.fill(0.0);
        Ok(buffer)
    }

    /// Takes a buffer back.
    pub fn give(&mut self, buffer: Buffer) {
        self.free.push(buffer);
    }

    /// Gives all memory back to the system. What is in use, after an error, is forgotten.
    pub fn clear(&mut self) {
        *self = Self::new(self.limit);
    }
}
