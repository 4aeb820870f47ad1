//! What every storage does, whatever is behind it.

use std::collections::BTreeSet;

use trove_guestagent::error::Error;
use trove_guestagent::model::BackupMetadata;
use trove_guestagent::op::Op;
use trove_guestagent::strategies::storage::{Location, Segment, SegmentBody, byte_stream};

use crate::support::{Place, body, collect, md5, noise, stream};

macro_rules! for_every_storage {
    ($($test:ident)*) => {
        mod slo {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::Place::swift("").await).await;
            })*
        }
        mod dlo {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::Place::swift("backup_manifest = dlo").await).await;
            })*
        }
        mod local {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::Place::local().await).await;
            })*
        }
    };
}

for_every_storage! {
    lone_segments_of_every_size
    more_segments_than_one_manifest_takes
    metadata_comes_back
    a_segment_sent_again_replaces_itself
    a_manifest_can_be_put_again
    deleting_leaves_nothing
    what_a_crash_left_is_deleted
    neighbours_stay
    what_is_missing_is_named
    reading_from_the_middle
    odd_names
    a_stream_that_fails_stores_nothing
    a_cancelled_upload_stores_nothing
    locations_say_where
    a_visit_tells_of_a_container_and_makes_none
}

async fn a_visit_tells_of_a_container_and_makes_none(place: Place) {
    let name = place.name("b.gz");
    place.store(&name, &[b"a"], &BackupMetadata::new()).await;
    let visit = place.storage.visit(&place.op, &place.container).await.unwrap();
    assert!(visit.found.contains(&place.container), "{visit:?}");
    if let Some(time) = visit.time {
        let now = std::time::SystemTime::now();
        assert!(now.duration_since(time).unwrap_or_else(|error| error.duration()).as_secs() < 60, "{visit:?}");
    }
    let other = format!("{}-none", place.container);
    for _ in 0..2 {
        // Found missing both times.
        let visit = place.storage.visit(&place.op, &other).await.unwrap();
        assert!(!visit.found.contains(" objects"), "{visit:?}");
    }
}

fn metadata(pairs: &[(&str, &str)]) -> BackupMetadata {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

async fn lone_segments_of_every_size(place: Place) {
    for size in [0, 1, 9_999, 300_000] {
        let name = place.name(&format!("b{size}.gz"));
        let content = noise(size, 7);
        let checksum = place.store(&name, &[&content], &metadata(&[("lsn", "5")])).await;
        let found = place.storage.inspect(&place.op, &place.location(&name)).await.unwrap();
        assert_eq!((found.checksum.as_str(), found.parts.len()), (checksum.as_str(), 1));
        assert_eq!(place.load(&name).await, content);
    }
}

async fn more_segments_than_one_manifest_takes(place: Place) {
    let name = place.name("big.xbstream.gz.enc");
    let contents: Vec<Vec<u8>> = (1..=45).map(|index| noise(index * 3, 11)).collect();
    let contents: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
    let checksum = place.store(&name, &contents, &metadata(&[("lsn", "17")])).await;
    let found = place.storage.inspect(&place.op, &place.location(&name)).await.unwrap();
    assert_eq!((found.checksum.as_str(), found.parts.len()), (checksum.as_str(), 45));
    assert_eq!(found.metadata, metadata(&[("lsn", "17")]));
    assert!(found.parts.iter().enumerate().all(|(index, part)| part.name == name.segment(index)));
    assert_eq!(place.load(&name).await, contents.concat());
    place.storage.delete(&place.op, &name).await.unwrap();
    assert!(place.names().await.is_empty());
}

async fn metadata_comes_back(place: Place) {
    let kept = metadata(&[
        ("datastore", "mysql"),
        ("datastore_version", "5.7 größer 100%25 "),
        ("parent_location", "http://198.51.100.1:8080/v1/AUTH_t/database_backups/b0.xbstream.gz.enc"),
        ("parent_checksum", &md5(b"x")),
        ("empty", ""),
        ("lines", "one\ntwo\t"),
    ]);
    for (object, contents) in [("one.gz", &[b"a".as_slice()][..]), ("two.gz", &[b"a", b"b"])] {
        let name = place.name(object);
        place.store(&name, contents, &kept).await;
        let found = place.storage.inspect(&place.op, &place.location(&name)).await.unwrap().metadata;
        // Swift does not keep what is empty.
        let without_empty: BackupMetadata = kept.clone().into_iter().filter(|(_, value)| !value.is_empty()).collect();
        assert!(found == kept || found == without_empty, "{found:?}");
    }
}

async fn a_segment_sent_again_replaces_itself(place: Place) {
    let name = place.name("again.gz");
    place.segment(&name, 0, b"first, and longer").await;
    let content = noise(50_000, 3);
    let stored = place.storage.put_segment(&place.op, &name.segment(0), body(&content, Some(50_000))).await.unwrap();
    assert_eq!(stored, md5(&content));
    let segment = Segment { name: name.segment(0), size: 50_000, md5: stored };
    place.storage.put_manifest(&place.op, &name, &[segment], &BackupMetadata::new()).await.unwrap();
    assert_eq!(place.load(&name).await, content);
}

async fn a_manifest_can_be_put_again(place: Place) {
    for contents in [&[b"lone".as_slice()][..], &[b"one", b"two"]] {
        let name = place.name(&format!("twice{}.gz", contents.len()));
        let segments = place.segments(&name, contents).await;
        let first = place.storage.put_manifest(&place.op, &name, &segments, &metadata(&[("lsn", "1")])).await.unwrap();
        let second = place.storage.put_manifest(&place.op, &name, &segments, &metadata(&[("lsn", "1")])).await.unwrap();
        assert_eq!(first, second);
        assert_eq!(place.load(&name).await, contents.concat());
    }
}

async fn deleting_leaves_nothing(place: Place) {
    for contents in [&[b"lone".as_slice()][..], &[b"one", b"two", b"three"]] {
        let name = place.name("gone.gz");
        place.store(&name, contents, &BackupMetadata::new()).await;
        let parts = place.storage.inspect(&place.op, &place.location(&name)).await.unwrap().parts;
        place.storage.delete(&place.op, &name).await.unwrap();
        assert_eq!(place.names().await, Vec::<String>::new());
        assert!(place.storage.read(&place.op, &parts[0], 0).await.is_err());
        place.storage.delete(&place.op, &name).await.unwrap();
    }
    let nowhere = trove_guestagent::strategies::storage::ObjectName::new("no-such-container", "o");
    place.storage.delete(&place.op, &nowhere).await.unwrap();
}

async fn what_a_crash_left_is_deleted(place: Place) {
    let name = place.name("left.xbstream.gz");
    place.segments(&name, &[b"one", b"two", b"three"]).await;
    place.lose(&name.segment(1)).await;
    place.storage.delete(&place.op, &name).await.unwrap();
    assert_eq!(place.names().await, Vec::<String>::new());
}

async fn neighbours_stay(place: Place) {
    let others = ["b10.gz", "b1old.gz", "b1-x.gz"].map(|object| place.name(object));
    for other in &others {
        place.store(other, &[b"other", b"backup"], &BackupMetadata::new()).await;
    }
    let name = place.name("b1.gz");
    place.store(&name, &[b"one", b"two"], &BackupMetadata::new()).await;
    assert_eq!(place.load(&name).await, b"onetwo");
    place.storage.delete(&place.op, &name).await.unwrap();
    for other in &others {
        assert_eq!(place.load(other).await, b"otherbackup", "{other}");
    }
    let left: BTreeSet<String> = place.names().await.into_iter().collect();
    assert_eq!(left.len(), 9, "{left:?}");
}

async fn what_is_missing_is_named(place: Place) {
    let name = place.name("holes.gz");
    place.expect(place.storage.inspect(&place.op, &place.location(&name)).await, false, "holes.gz");
    place.store(&name, &[b"one", b"two", b"three"], &BackupMetadata::new()).await;
    place.lose(&name.segment(1)).await;
    place.expect(place.storage.inspect(&place.op, &place.location(&name)).await, false, "holes_00000001");
    let segments = [Segment { name: name.segment(1), size: 3, md5: md5(b"two") }];
    assert!(place.storage.put_manifest(&place.op, &place.name("holes2.gz"), &[], &BackupMetadata::new()).await.is_err());
    let other = place.name("holes3.gz");
    assert!(place.storage.put_manifest(&place.op, &other, &segments, &BackupMetadata::new()).await.is_err());
    assert!(place.storage.inspect(&place.op, &place.location(&other)).await.is_err(), "there must be no object");
}

async fn reading_from_the_middle(place: Place) {
    let name = place.name("ranges.gz");
    let content = noise(200_000, 5);
    let segments = place.segments(&name, &[&content, b"end"]).await;
    for offset in [0, 1, 65_536, 199_999, 200_000, 200_001] {
        let stream = place.storage.read(&place.op, &segments[0], u64::try_from(offset).unwrap()).await.unwrap();
        assert_eq!(collect(stream).await.unwrap(), content.get(offset..).unwrap_or_default(), "from {offset}");
    }
    let longer = Segment { size: 200_010, ..segments[0].clone() };
    let outcome = match place.storage.read(&place.op, &longer, 0).await {
        Ok(stream) => collect(stream).await,
        Err(error) => Err(error),
    };
    assert!(matches!(outcome, Err(Error::Storage { .. })), "a part that ends early is no part");
}

async fn odd_names(place: Place) {
    for object in ["bäck üp #1?100%.x", "a&b=c+d.gz", "tilde~(1)'\".gz", "%41_.gz"] {
        let name = place.name(object);
        place.store(&name, &[b"one", b"two"], &BackupMetadata::new()).await;
        assert_eq!(place.load(&name).await, b"onetwo", "{object}");
        place.storage.delete(&place.op, &name).await.unwrap();
    }
    assert_eq!(place.names().await, Vec::<String>::new());
}

async fn a_stream_that_fails_stores_nothing(place: Place) {
    let name = place.name("broken.gz").segment(0);
    for size in [None, Some(50_000)] {
        let failing = SegmentBody { bytes: stream(&noise(40_000, 1), Some(Error::guest("the tool has ended"))), size };
        let error = place.storage.put_segment(&place.op, &name, failing).await.unwrap_err();
        assert_eq!(error.to_string(), "the tool has ended");
    }
    assert!(place.storage.put_segment(&place.op, &name, body(&noise(40_000, 1), Some(50_000))).await.is_err());
    assert_eq!(place.names().await, Vec::<String>::new());
}

async fn a_cancelled_upload_stores_nothing(place: Place) {
    let name = place.name("cancelled.gz").segment(0);
    let (sender, bytes) = byte_stream(1);
    let op: Op = place.op.clone();
    let feeding = async {
        // The third is taken only when the first is on its way.
        for _ in 0..3 {
            sender.send(Ok(bytes::Bytes::from_static(b"data"))).await.unwrap();
        }
        op.cancel.cancel();
    };
    let (outcome, ()) = tokio::join!(place.storage.put_segment(&place.op, &name, SegmentBody { bytes, size: None }), feeding);
    assert!(matches!(outcome, Err(Error::Cancelled { .. })), "{outcome:?}");
    assert_eq!(place.names().await, Vec::<String>::new());
}

async fn locations_say_where(place: Place) {
    let name = place.name("b1.xbstream.gz.enc");
    let text = place.storage.location(&name);
    assert!(text.contains("://") && text.ends_with(&format!("/{}/b1.xbstream.gz.enc", place.container)), "{text}");
    assert_eq!(Location::parse(&text).unwrap().name(), &name);
}
