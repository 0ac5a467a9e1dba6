//! Blocks: a batch of records is written as blocks of one sector each, so that each is there, or not
//! there, or damaged, and which of these can be told.

use crc32c::crc32c;

use crate::disk::SECTOR;

/// crc, batch, index, synced, position, blocks, used.
const HEADER: usize = 4 + 8 + 8 + 8 + 2 + 2 + 2;
/// Bytes of a batch in a block.
pub(super) const PAYLOAD: usize = SECTOR - HEADER;

/// A block that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// Number of its batch; the first is 1.
    pub(super) batch: u64,
    /// Of the batch's first record.
    pub(super) index: u64,
    /// The last batch that was synced when this one was written: what is missing up to there was there.
    pub(super) synced: u64,
    /// Which of the batch's blocks it is.
    pub(super) position: u16,
    /// How many the batch has.
    pub(super) blocks: u16,
    pub(super) payload: Vec<u8>,
}

/// What is found where a block may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing was ever written there, or it did not arrive.
    Nothing,
    Whole(Block),
    Damaged,
}

/// Blocks that a batch of so many bytes takes.
pub(super) fn blocks_for(bytes: usize) -> usize {
    bytes.div_ceil(PAYLOAD)
}

/// A batch as it is written. `header` names it; its position and payload are filled in.
pub(super) fn encode(header: &Block, bytes: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(blocks_for(bytes.len()) * SECTOR);
    for (position, payload) in bytes.chunks(PAYLOAD).enumerate() {
        let start = encoded.len();
        encoded.extend_from_slice(&[0; 4]);
        encoded.extend_from_slice(&header.batch.to_le_bytes());
        encoded.extend_from_slice(&header.index.to_le_bytes());
        encoded.extend_from_slice(&header.synced.to_le_bytes());
        encoded.extend_from_slice(&(position as u16).to_le_bytes());
        encoded.extend_from_slice(&header.blocks.to_le_bytes());
        encoded.extend_from_slice(&(payload.len() as u16).to_le_bytes());
        encoded.extend_from_slice(payload);
        encoded.resize(start + SECTOR, 0);
        let crc = crc32c(&encoded[start + 4..]);
        encoded[start..start + 4].copy_from_slice(&crc.to_le_bytes());
    }
    encoded
}

/// What a sector holds. `is_checked` is false only in a log that believes flipped bits.
pub(super) fn decode(sector: &[u8], is_checked: bool) -> Found {
    if *sector == [0; SECTOR] {
        return Found::Nothing;
    }
    let word = |at: usize| u64::from_le_bytes(sector[at..at + 8].try_into().expect("8 bytes"));
    let short = |at: usize| u16::from_le_bytes([sector[at], sector[at + 1]]);
    let crc = u32::from_le_bytes(sector[..4].try_into().expect("4 bytes"));
    let (position, blocks, used) = (short(28), short(30), short(32));
    let is_sound = position < blocks && usize::from(used) <= PAYLOAD;
    if !is_sound || (is_checked && crc != crc32c(&sector[4..])) {
        return Found::Damaged;
    }
    Found::Whole(Block {
        batch: word(4),
        index: word(12),
        synced: word(20),
        position,
        blocks,
        payload: sector[HEADER..HEADER + usize::from(used)].to_vec(),
    })
}

/// Appends a record to the bytes of a batch.
pub(super) fn push_record(bytes: &mut Vec<u8>, record: &[u8]) {
    bytes.extend_from_slice(&(record.len() as u32).to_le_bytes());
    bytes.extend_from_slice(record);
}

/// The records of a batch; `None` if the bytes are not records.
pub(super) fn records(mut bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let (len, rest) = bytes.split_first_chunk::<4>()?;
        let (record, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        records.push(record.to_vec());
        bytes = rest;
    }
    Some(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_what_was_written_and_no_flipped_bit_is_believed() {
        let mut bytes = Vec::new();
        push_record(&mut bytes, &[7; 600]);
        push_record(&mut bytes, b"");
        let header = Block {
            batch: 3,
            index: 9,
            synced: 2,
            position: 0,
            blocks: blocks_for(bytes.len()) as u16,
            payload: Vec::new(),
        };
        let encoded = encode(&header, &bytes);
        assert_eq!(encoded.len(), 2 * SECTOR);
        let mut read = Vec::new();
        for (position, sector) in encoded.chunks(SECTOR).enumerate() {
            let Found::Whole(block) = decode(sector, true) else {
                panic!("block {position} is not whole");
            };
            read.extend_from_slice(&block.payload);
            let payload = Vec::new();
            let position = position as u16;
            assert_eq!(
                Block { payload, ..block },
                Block {
                    position,
                    ..header.clone()
                }
            );
            for bit in 0..SECTOR * 8 {
                let mut sector = sector.to_vec();
                sector[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(decode(&sector, true), Found::Damaged, "bit {bit}");
            }
        }
        assert_eq!(records(&read), Some(vec![vec![7; 600], vec![]]));
        assert_eq!(records(&read[1..]), None);
    }
}
