//! The records of an event file: each is its length, its data, and a checksum of either.

/// `data` as a record: length (u64), masked CRC-32C of the length, data, masked CRC-32C of the data, all little-endian.
pub fn framed(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(data.len() + 16);
    record.extend_from_slice(&length);
    record.extend_from_slice(&masked_crc32c(&length).to_le_bytes());
    record.extend_from_slice(data);
    record.extend_from_slice(&masked_crc32c(data).to_le_bytes());
    record
}

/// CRC-32C, turned and shifted by a constant as the format wants it, so that a checksum over checksums still tells.
pub fn masked_crc32c(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The Castagnoli polynomial, reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { value >> 1 ^ POLYNOMIAL } else { value >> 1 };
            bit += 1;
        }
        table[byte] = value;
        byte += 1;
    }
    table
}

fn crc32c(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |crc, &byte| crc >> 8 ^ TABLE[usize::from(crc as u8 ^ byte)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensorboard::proto::Event;
    use prost::Message;

    #[test]
    fn the_checksum_is_castagnolis() {
        // RFC 3720, B.4, and the check value of the catalogue of parametrised CRC algorithms.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn a_record_is_as_tensorflow_writes_it() {
        // RecordWriter.write(Event(wall_time=1.5, file_version="brain.Event:2").SerializeToString()) of tensorboard 2.21.0.
        let expected =
            b"\x18\0\0\0\0\0\0\0\xa3\x7f\x4b\x22\x09\0\0\0\0\0\0\xf8\x3f\x1a\x0dbrain.Event:2\x2a\x28\x64\x6c";
        let event = Event { wall_time: 1.5, file_version: Some("brain.Event:2".into()), ..Default::default() };
        assert_eq!(framed(&event.encode_to_vec()), expected);
    }
}
