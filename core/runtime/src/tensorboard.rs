//! TensorBoard event files with scalars, written by hand: TFRecord framing (length, masked crc32c, data, masked crc32c)
//! around a few protobuf fields of `tensorflow.Event`.

/// A record that opens an event file.
pub(crate) fn header(seconds: f64) -> Vec<u8> {
    let mut event = Vec::new();
    double(&mut event, 1, seconds);
    bytes(&mut event, 3, b"brain.Event:2");
    framed(&event)
}

/// A record with one scalar.
pub(crate) fn scalar(seconds: f64, step: u64, tag: &str, value: f32) -> Vec<u8> {
    // Summary.Value { tag = 1, simple_value = 2 }
    let mut inner = Vec::new();
    bytes(&mut inner, 1, tag.as_bytes());
    key(&mut inner, 2, 5);
    inner.extend_from_slice(&value.to_le_bytes());
    // Summary { value = 1 }
    let mut summary = Vec::new();
    bytes(&mut summary, 1, &inner);
    // Event { wall_time = 1, step = 2, summary = 5 }
    let mut event = Vec::new();
    double(&mut event, 1, seconds);
    key(&mut event, 2, 0);
    varint(&mut event, step);
    bytes(&mut event, 5, &summary);
    framed(&event)
}

fn framed(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = length.to_vec();
    record.extend_from_slice(&masked(&length).to_le_bytes());
    record.extend_from_slice(data);
    record.extend_from_slice(&masked(data).to_le_bytes());
    record
}

fn key(out: &mut Vec<u8>, field: u64, wire: u64) {
    varint(out, field << 3 | wire);
}

fn double(out: &mut Vec<u8>, field: u64, value: f64) {
    key(out, field, 1);
    out.extend_from_slice(&value.to_le_bytes());
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    key(out, field, 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// TFRecord's masked checksum.
fn masked(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), bit by bit: a few bytes per step do not need a table.
fn crc32c(data: &[u8]) -> u32 {
    !data.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_castagnolis() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn a_scalar_is_framed_and_encoded() {
        let record = scalar(1.0, 300, "loss", 0.5);
        let length = u64::from_le_bytes(record[..8].try_into().unwrap()) as usize;
        assert_eq!(record.len(), 8 + 4 + length + 4);
        let event = &record[12..12 + length];
        assert_eq!(event[..9], [9, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f]);
        assert_eq!(event[9..12], [16, 0xac, 0x02], "step 300 as a varint");
        assert_eq!(&event[12..], b"\x2a\x0d\x0a\x0b\x0a\x04loss\x15\x00\x00\x00\x3f");
    }
}
