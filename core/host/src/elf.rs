//! Whether a dynamic library is all there. The loader of Linux maps what the headers promise and touches it: a file that
//! was cut ends the process.

/// Why the bytes are not a whole ELF file of this machine's width and byte order. Other formats, and ELF files that
/// the loader refuses by itself, pass.
pub(crate) fn check(bytes: &[u8]) -> Result<(), String> {
    if !bytes.starts_with(b"\x7fELF") {
        return Ok(());
    }
    let file = Elf(bytes);
    let cut = || format!("it is cut off after {} bytes", bytes.len());
    let native = [2, if cfg!(target_endian = "little") { 1 } else { 2 }];
    if bytes.get(4..6).ok_or_else(cut)? != native {
        return Ok(());
    }
    // Tables of the header: offset, size of an entry, number of entries.
    let programs = (file.word(32), file.half(54), file.half(56));
    let sections = (file.word(40), file.half(58), file.half(60));
    for (offset, size, count) in [programs, sections] {
        let (offset, size, count) = (offset.ok_or_else(cut)?, size.ok_or_else(cut)?, count.ok_or_else(cut)?);
        file.holds(offset, u64::from(size) * u64::from(count)).ok_or_else(cut)?;
    }
    let (Some(start), Some(size), Some(count)) = programs else { return Err(cut()) };
    for index in 0..u64::from(count) {
        let header = start.checked_add(index * u64::from(size)).ok_or_else(cut)?;
        let field = |place: u64| file.word(usize::try_from(header.checked_add(place)?).ok()?);
        let (offset, length) = (field(8).ok_or_else(cut)?, field(32).ok_or_else(cut)?);
        file.holds(offset, length).ok_or_else(cut)?;
    }
    Ok(())
}

/// The file and its numbers.
struct Elf<'a>(&'a [u8]);

impl Elf<'_> {
    fn word(&self, place: usize) -> Option<u64> {
        Some(u64::from_ne_bytes(*self.0.get(place..)?.first_chunk()?))
    }

    fn half(&self, place: usize) -> Option<u16> {
        Some(u16::from_ne_bytes(*self.0.get(place..)?.first_chunk()?))
    }

    /// Whether the file has `length` bytes at `offset`.
    fn holds(&self, offset: u64, length: u64) -> Option<()> {
        let end = usize::try_from(offset.checked_add(length)?).ok()?;
        (end <= self.0.len()).then_some(())
    }
}

#[cfg(all(test, target_os = "linux", target_pointer_width = "64"))]
mod tests {
    use super::*;

    #[test]
    fn whole_files_pass_and_no_beginning_of_one_does() {
        let whole = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(check(&whole), Ok(()));
        assert_eq!(check(b"not ELF"), Ok(()));
        let step = whole.len() / 500 + 1;
        for length in (4..64).chain((64..whole.len()).step_by(step)).chain([whole.len() - 1]) {
            assert!(check(&whole[..length]).is_err(), "{length} of {}", whole.len());
        }
    }
}
