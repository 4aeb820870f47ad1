//! Segments on their way to storage, and what happens when that goes wrong.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use trove_guestagent::error::Error;
use trove_guestagent::model::RequestContext;
use trove_guestagent::progress::Progress;
use trove_guestagent::strategies::backup::{Encoding, Limits, Retry, discard, encode, upload};
use trove_guestagent::strategies::storage::byte_stream;

use super::memory::{Fault, Memory};
use super::support::{backup, limits, md5, name, op, retry, stream};
use super::tools::{directory, dump};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_pieces_make_the_same_segments(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..20), size in 1..100_u64) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let storage = Memory::default();
            let content = pieces.concat();
            let uploaded = upload(&op(), &storage, &name(), stream(pieces), &limits(size), &Progress::new("t")).await.unwrap();
            let sizes: Vec<u64> = uploaded.segments.iter().map(|segment| segment.size).collect();
            let length = content.len() as u64;
            let mut expected = vec![size; usize::try_from(length / size).unwrap()];
            expected.extend(Some(length % size).filter(|rest| *rest > 0 || length == 0));
            prop_assert_eq!(sizes, expected);
            prop_assert_eq!(uploaded.size, length);
            prop_assert_eq!(storage.content(&uploaded.segments), content);
            for segment in &uploaded.segments {
                prop_assert_eq!(&segment.md5, &md5(&storage.content(std::slice::from_ref(segment))));
            }
            Ok(())
        })?;
    }
}

/// Every transient fault on the second segment, kept in memory and on disk: the stored backup is the same.
#[tokio::test]
async fn a_transient_failure_is_sent_again() {
    let (_guard, spool) = directory();
    let content = dump(1 << 20).repeat(40);
    let on_disk = Limits { segment_max_size: 17 << 20, spool_dir: Some(spool.clone()), retry: retry() };
    let in_memory = limits(6 << 20);
    for (limits, fault) in [
        (&on_disk, Fault::Refused { transient: true }),
        (&on_disk, Fault::Breaks(1 << 20)),
        (&on_disk, Fault::Alters),
        (&in_memory, Fault::Breaks(1 << 20)),
        (&in_memory, Fault::Refused { transient: true }),
    ] {
        let storage = Memory::default();
        storage.fail_puts([None, Some(fault), Some(fault)]);
        let pieces = content.chunks(1 << 20).map(<[u8]>::to_vec).collect();
        let progress = Progress::new("t");
        let uploaded = upload(&op(), &storage, &name(), stream(pieces), limits, &progress).await.unwrap();
        assert!(storage.content(&uploaded.segments) == content, "{fault:?}");
        assert_eq!(uploaded.segments[0].size, limits.segment_max_size);
        assert_eq!(progress.snapshot().retries, 2);
        assert_eq!(progress.snapshot().stored, content.len() as u64, "what is sent again is not counted again");
    }
    assert_eq!(std::fs::read_dir(&spool).unwrap().count(), 0, "the spool has no names");
}

#[tokio::test]
async fn a_store_that_hangs_has_failed() {
    let storage = Memory::default();
    storage.fail_puts([Some(Fault::Hangs)]);
    let mut limits = limits(1 << 20);
    limits.retry.stall = Duration::from_millis(100);
    let content = dump(3 << 20);
    let pieces = content.chunks(1 << 16).map(<[u8]>::to_vec).collect();
    let uploaded = upload(&op(), &storage, &name(), stream(pieces), &limits, &Progress::new("t")).await.unwrap();
    assert_eq!(storage.content(&uploaded.segments), content);
}

#[tokio::test]
async fn retrying_ends_and_says_why() {
    let storage = Memory::default();
    storage.fail_puts([None, Some(Fault::Alters), Some(Fault::Alters), Some(Fault::Alters), Some(Fault::Alters)]);
    let error = backup(&storage, dump(1 << 20), None, &limits(50_000)).await.unwrap_err().to_string();
    assert!(error.contains("store segment database_backups/b1_00000001, tried 3 times: "), "{error}");
    assert!(error.contains("has MD5") && error.contains("was sent"), "{error}");
    let storage = Memory::default();
    storage.fail_puts([Some(Fault::Refused { transient: false }), None]);
    let error = backup(&storage, dump(1 << 20), None, &limits(50_000)).await.unwrap_err();
    assert!(!error.is_transient(), "{error}");
    assert!(storage.names().is_empty(), "a refusal is not repeated");
}

#[tokio::test]
async fn a_failed_tool_fails_the_upload_and_its_segment_is_not_stored() {
    let storage = Memory::default();
    let (sender, encoded) = byte_stream(1);
    let feed = tokio::spawn(async move {
        for _ in 0..3 {
            sender.send(Ok(vec![7; 400].into())).await.unwrap();
        }
        sender.send(Err(Error::guest("the tool died"))).await.unwrap();
    });
    let error = upload(&op(), &storage, &name(), encoded, &limits(1000), &Progress::new("t")).await.unwrap_err();
    feed.await.unwrap();
    assert_eq!(error.to_string(), "the tool died");
    assert_eq!(storage.names(), ["database_backups/b1_00000000"], "the second segment broke off");
    discard(&storage, &name(), RequestContext::default()).await.unwrap();
    assert!(storage.names().is_empty());
}

#[tokio::test]
async fn cancellation_ends_the_upload_and_lets_the_tool_go() {
    let storage = Memory::default();
    let (op, progress) = (op(), Progress::new("t"));
    let (mut tool, output) = tokio::io::duplex(1 << 16);
    let encoded = encode(Box::pin(output), Encoding { compress: true, key: None }, Arc::clone(&progress));
    let writing = tokio::spawn(async move {
        let content = dump(1 << 20);
        loop {
            if let Err(error) = tokio::io::AsyncWriteExt::write_all(&mut tool, &content).await {
                return error.kind();
            }
        }
    });
    let limits = limits(10_000);
    let cancel = async {
        while progress.snapshot().segments < 3 {
            tokio::task::yield_now().await;
        }
        op.cancel.cancel();
    };
    let name = name();
    let (result, ()) = tokio::join!(upload(&op, &storage, &name, encoded, &limits, &progress), cancel);
    assert!(matches!(result, Err(Error::Cancelled { .. })), "{result:?}");
    assert_eq!(writing.await.unwrap(), std::io::ErrorKind::BrokenPipe, "the reader is dropped");
    discard(&storage, &name, op.context.clone()).await.unwrap();
    assert!(storage.names().is_empty());
}

#[test]
fn by_default_a_segment_is_tried_for_a_while() {
    let Retry { attempts, longest_pause, .. } = Retry::default();
    assert!(attempts > 3 && longest_pause >= Duration::from_secs(10));
}
