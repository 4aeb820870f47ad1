//! One gzip stream made of blocks that are compressed on several threads.
//!
//! A block ends at a byte boundary and begins with the end of the one before it as its dictionary, so the blocks in order are one deflate stream and
//! next to nothing is lost at their seams.

use bytes::Bytes;
use flate2::{Compress, CompressError, Compression, Crc, FlushCompress};

/// Bytes of content in one block: small enough to keep a dozen in memory, large enough for the cost of a seam (five bytes) not to matter.
pub(super) const BLOCK: usize = 256 << 10;
/// How far deflate looks back.
const WINDOW: usize = 32 << 10;
/// Of flate2: 2.4 % larger than gzip(1) leaves a dump, at several times its speed (docs/adr/0009).
const LEVEL: u32 = 3;
/// How much of a block is looked at to see whether compressing it is worth while.
const SAMPLE: usize = 8 << 10;

/// Header of RFC 1952: deflate, no name, no time, fastest, Unix.
pub(super) const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 3];
/// The empty block that ends a deflate stream.
const LAST_BLOCK: [u8; 2] = [3, 0];

/// One block of content.
#[derive(Debug)]
pub(super) struct Block {
    /// The content.
    pub(super) content: Bytes,
    /// What came before it.
    pub(super) before: Bytes,
}

/// One block, compressed.
#[derive(Debug)]
pub(super) struct Deflated {
    /// A piece of a deflate stream, ending at a byte boundary.
    pub(super) bytes: Bytes,
    /// CRC of the content.
    pub(super) crc: Crc,
}

/// Compresses blocks, one after the other. Each thread has one.
#[derive(Debug)]
pub(super) struct Deflater {
    deflate: Compress,
    store: Compress,
}

impl Deflater {
    pub(super) fn new() -> Self {
        Deflater { deflate: Compress::new(Compression::new(LEVEL), false), store: Compress::new(Compression::none(), false) }
    }

    pub(super) fn compress(&mut self, block: &Block) -> Result<Deflated, CompressError> {
        let content = &block.content;
        let mut crc = Crc::new();
        crc.update(content);
        let mut out = Vec::with_capacity(content.len() / 2 + 1024);
        let sample = content.len() / 2..content.len().min(content.len() / 2 + SAMPLE);
        if sample.len() == SAMPLE && looks_random(&content[sample.clone()]) {
            // It may repeat what lies before it: only what cannot be compressed within its window is stored.
            self.begin(&[])?;
            squeeze(&mut self.deflate, &content[sample], &mut out)?;
            if out.len() >= SAMPLE {
                out.clear();
                self.store.reset();
                squeeze(&mut self.store, content, &mut out)?;
                return Ok(Deflated { bytes: out.into(), crc });
            }
            out.clear();
        }
        self.begin(&block.before)?;
        squeeze(&mut self.deflate, content, &mut out)?;
        Ok(Deflated { bytes: out.into(), crc })
    }

    fn begin(&mut self, before: &[u8]) -> Result<(), CompressError> {
        self.deflate.reset();
        let window = &before[before.len().saturating_sub(WINDOW)..];
        if !window.is_empty() {
            self.deflate.set_dictionary(window)?;
        }
        Ok(())
    }
}

/// Compresses all of `content` up to a byte boundary.
fn squeeze(compress: &mut Compress, content: &[u8], out: &mut Vec<u8>) -> Result<(), CompressError> {
    loop {
        let done = usize::try_from(compress.total_in()).unwrap_or(usize::MAX);
        let rest = content.get(done..).unwrap_or_default();
        compress.compress_vec(rest, out, FlushCompress::Sync)?;
        // Room left over means that nothing is waiting for it.
        if compress.total_in() == content.len() as u64 && out.len() < out.capacity() {
            return Ok(());
        }
        out.reserve(32 << 10);
    }
}

/// Whether all byte values are about as frequent, as in what is compressed or encrypted already.
pub(super) fn looks_random(sample: &[u8]) -> bool {
    if sample.is_empty() {
        return false;
    }
    let mut counts = [0_u32; 256];
    sample.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    let expected = sample.len() as f64 / 256.0;
    // Chi-squared with 255 degrees of freedom: 255 on average, above 400 once in a million million.
    counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum::<f64>() < 400.0
}

/// What follows the last block.
pub(super) fn gzip_trailer(crc: &Crc, size: u64) -> Vec<u8> {
    let mut trailer = LAST_BLOCK.to_vec();
    trailer.extend_from_slice(&crc.sum().to_le_bytes());
    // ISIZE is the size modulo 2^32.
    trailer.extend_from_slice(&((size & u64::from(u32::MAX)) as u32).to_le_bytes());
    trailer
}
