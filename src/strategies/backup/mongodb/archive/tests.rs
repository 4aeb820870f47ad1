use mongodb::bson::{Bson, Document, doc, rawdoc};
use proptest::prelude::*;

use super::*;

fn prelude(collections: Vec<CollectionMetadata>) -> Prelude {
    let header = Header { concurrent_collections: 4, server_version: "6.0.5".into(), tool_version: "100.9.4".into() };
    Prelude { header, collections }
}

fn plain(database: &str, collection: &str) -> CollectionMetadata {
    CollectionMetadata { namespace: Namespace::new(database, collection), metadata: String::new(), kind: CollectionKind::Collection }
}

/// Everything an archive tells, read in pieces of this size.
fn read(bytes: &[u8], piece: usize) -> Result<Vec<Event>, ArchiveError> {
    let (mut reader, mut events) = (ArchiveReader::default(), Vec::new());
    for piece in bytes.chunks(piece.max(1)) {
        reader.push(piece);
        while let Some(event) = reader.next_event()? {
            events.push(event);
        }
    }
    reader.finish().map(|()| events)
}

fn written(collections: &[(CollectionMetadata, Vec<Vec<u8>>)]) -> Vec<u8> {
    let mut out = Vec::new();
    let announced = collections.iter().map(|(metadata, _)| metadata.clone()).collect();
    let mut writer = ArchiveWriter::begin(&prelude(announced), &mut out);
    for (metadata, documents) in collections {
        writer.open(&metadata.data_namespace(), &mut out);
        for document in documents {
            assert!(writer.document(document, &mut out));
        }
        writer.close(&mut out);
    }
    out
}

/// The documents of each collection.
fn documents(events: &[Event]) -> Vec<(Namespace, Vec<Vec<u8>>)> {
    let mut found: Vec<(Namespace, Vec<Vec<u8>>)> = Vec::new();
    for event in events {
        match event {
            Event::Document(name, bytes) => match found.iter_mut().find(|(other, _)| *other == **name) {
                Some((_, documents)) => documents.push(bytes.to_vec()),
                None => found.push(((**name).clone(), vec![bytes.to_vec()])),
            },
            Event::Prelude(_) | Event::End(_) => {}
        }
    }
    found
}

fn block(database: &str, collection: &str, end: Option<i64>, documents: &[&[u8]]) -> Vec<u8> {
    let header = rawdoc! { "db": database, "collection": collection, "EOF": end.is_some(), "CRC": end.unwrap_or_default() };
    let mut bytes = header.into_bytes();
    documents.iter().for_each(|document| bytes.extend_from_slice(document));
    bytes.extend(TERMINATOR);
    bytes
}

/// Made by hand from common/archive/spec.md: {a: 1} is 0c 00 00 00 10 61 00 01 00 00 00 00.
#[test]
fn the_documented_bytes_are_read_and_written() {
    let document: &[u8] = b"\x0c\0\0\0\x10a\0\x01\0\0\0\0";
    let mut expected = b"\x6d\xe2\x99\x81".to_vec();
    let header = rawdoc! { "concurrent_collections": 4, "version": "0.1", "server_version": "6.0.5", "tool_version": "100.9.4" };
    expected.extend(header.as_bytes());
    expected.extend(rawdoc! { "db": "shop", "collection": "c", "metadata": "", "size": 0, "type": "collection" }.as_bytes());
    expected.extend(b"\xff\xff\xff\xff");
    expected.extend(block("shop", "c", None, &[document]));
    // From Go's crc64.Checksum with crc64.ECMA, which inverts and reflects: that of "123456789" is 995dc9bbdf1939fa.
    assert_eq!(CRC.checksum(b"123456789"), 0x995d_c9bb_df19_39fa);
    let checksum = i64::from_le_bytes(CRC.checksum(document).to_le_bytes());
    expected.extend(block("shop", "c", Some(checksum), &[]));
    let collections = [(plain("shop", "c"), vec![document.to_vec()])];
    assert_eq!(written(&collections), expected);
    assert_eq!(documents(&read(&expected, 7).unwrap()), [(Namespace::new("shop", "c"), vec![document.to_vec()])]);
}

#[test]
fn collections_that_take_turns_are_told_apart() {
    let (one, two) = (rawdoc! { "_id": 1 }.into_bytes(), rawdoc! { "_id": 2 }.into_bytes());
    let mut bytes = Vec::new();
    ArchiveWriter::begin(&prelude(vec![plain("d", "a"), plain("d", "b"), plain("d", "empty")]), &mut bytes);
    let checksum = |documents: &[&[u8]]| Some(i64::from_le_bytes(CRC.checksum(&documents.concat()).to_le_bytes()));
    bytes.extend(block("d", "a", None, &[&one]));
    bytes.extend(block("d", "b", None, &[&two]));
    bytes.extend(block("d", "empty", None, &[]));
    bytes.extend(block("d", "empty", checksum(&[]), &[]));
    bytes.extend(block("d", "a", None, &[&two, &one]));
    bytes.extend(block("d", "b", checksum(&[&two]), &[]));
    let unfinished = bytes.clone();
    bytes.extend(block("d", "a", checksum(&[&one, &two, &one]), &[]));
    let events = read(&bytes, 5).unwrap();
    let expected = [(Namespace::new("d", "a"), vec![one.clone(), two.clone(), one.clone()]), (Namespace::new("d", "b"), vec![two.clone()])];
    assert_eq!(documents(&events), expected);
    assert_eq!(read(&unfinished, 9), Err(ArchiveError::Unfinished(Namespace::new("d", "a"))));
    // Nothing may follow an end, and nobody may come who was not announced.
    bytes.extend(block("d", "a", None, &[&one]));
    assert_eq!(read(&bytes, 9), Err(ArchiveError::Unexpected(Namespace::new("d", "a"))));
    let mut stranger = unfinished;
    stranger.extend(block("d", "stranger", None, &[&one]));
    assert_eq!(read(&stranger, 9), Err(ArchiveError::Unexpected(Namespace::new("d", "stranger"))));
}

#[test]
fn what_is_no_archive_is_told_as_that() {
    assert_eq!(read(b"REDIS0010", 3), Err(ArchiveError::NoArchive));
    assert_eq!(read(b"\x6d\xe2", 1), Err(ArchiveError::Truncated(2)));
    let mut newer = MAGIC.to_vec();
    newer.extend(rawdoc! { "concurrent_collections": 4, "version": "0.2", "server_version": "", "tool_version": "" }.as_bytes());
    assert_eq!(read(&newer, 100), Err(ArchiveError::Version("0.2".into())));
    let mut huge = MAGIC.to_vec();
    huge.extend(0x7fff_ffff_u32.to_le_bytes());
    assert_eq!(read(&huge, 100), Err(ArchiveError::Length { length: 0x7fff_ffff, at: 4 }));
}

#[test]
fn what_is_no_document_is_not_written() {
    let mut out = Vec::new();
    let mut writer = ArchiveWriter::begin(&prelude(vec![plain("d", "c")]), &mut out);
    assert!(!writer.document(&rawdoc! {}.into_bytes(), &mut out), "no collection is open");
    writer.open(&Namespace::new("d", "c"), &mut out);
    let before = out.len();
    for bytes in [&b""[..], b"\x05\0\0\0\x01", b"\x06\0\0\0\0", b"\xff\xff\xff\xff", b"\x04\0\0\0"] {
        assert!(!writer.document(bytes, &mut out));
    }
    assert_eq!(out.len(), before);
}

#[test]
fn options_and_indexes_keep_types_and_order() {
    let indexes = vec![
        doc! { "v": 2, "key": { "z": 1, "a": -1.0, "m": 7_i64 }, "name": "z_1_a_-1", "expireAfterSeconds": 0.5 },
        doc! { "v": 2, "key": { "t": "text" }, "partialFilterExpression": { "a": { "$gt": mongodb::bson::DateTime::from_millis(1) } } },
    ];
    let metadata = Metadata { options: doc! { "capped": true, "size": 4096 }, indexes, uuid: Some("6a0b".into()) };
    let announced = metadata.announce(Namespace::new("d", "c"), CollectionKind::Collection);
    let text = &announced.metadata;
    assert!(
        text.starts_with(r#"{"options":{"capped":true,"size":{"$numberInt":"4096"}},"indexes":[{"v":{"$numberInt":"2"},"key":{"z":"#),
        "{text}"
    );
    assert!(text.contains(r#""a":{"$numberDouble":"-1.0"},"m":{"$numberLong":"7"}}"#), "{text}");
    assert_eq!(Metadata::of(&announced).unwrap(), metadata);
    let without = plain("", "oplog");
    assert_eq!(Metadata::of(&without).unwrap(), Metadata::default());
    for damaged in ["{", "[]", r#"{"indexes": 5}"#, r#"{"indexes": [5]}"#, r#"{"options": ""}"#] {
        let damaged = CollectionMetadata { metadata: damaged.into(), ..plain("d", "c") };
        assert_eq!(Metadata::of(&damaged), Err(ArchiveError::Metadata(Namespace::new("d", "c"))), "{damaged:?}");
    }
}

fn values() -> impl Strategy<Value = Bson> {
    let leaf = prop_oneof![
        any::<i32>().prop_map(Bson::Int32),
        any::<i64>().prop_map(Bson::Int64),
        any::<f64>().prop_filter("NaN is not equal to itself", |value| !value.is_nan()).prop_map(Bson::Double),
        any::<bool>().prop_map(Bson::Boolean),
        "[^\0]{0,12}".prop_map(Bson::String),
        any::<i64>().prop_map(|millis| Bson::DateTime(mongodb::bson::DateTime::from_millis(millis))),
        any::<[u8; 12]>().prop_map(|bytes| Bson::ObjectId(mongodb::bson::oid::ObjectId::from_bytes(bytes))),
        any::<(u32, u32)>().prop_map(|(time, increment)| Bson::Timestamp(mongodb::bson::Timestamp { time, increment })),
        proptest::collection::vec(any::<u8>(), 0..20)
            .prop_map(|bytes| Bson::Binary(mongodb::bson::Binary { subtype: mongodb::bson::spec::BinarySubtype::Generic, bytes })),
        Just(Bson::Null),
        Just(Bson::MinKey),
        Just(Bson::MaxKey),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Bson::Array),
            // A key with a dollar sign in front means something else in extended JSON.
            proptest::collection::vec(("[a-z][a-z.$]{0,5}", inner), 0..4)
                .prop_map(|entries| Bson::Document(entries.into_iter().collect::<Document>())),
        ]
    })
}

fn collections() -> impl Strategy<Value = Vec<(CollectionMetadata, Vec<Vec<u8>>)>> {
    let documents = proptest::collection::vec(values().prop_map(|value| doc! { "_id": value }.to_vec().unwrap()), 0..5);
    proptest::collection::vec(documents, 0..4).prop_map(|collections| {
        let named = collections.into_iter().enumerate();
        named.map(|(number, documents)| (plain("d", &format!("c{number}")), documents)).collect()
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_in_pieces_of_any_size(collections in collections(), piece in 1_usize..600) {
        let events = read(&written(&collections), piece).unwrap();
        let announced: Vec<CollectionMetadata> = collections.iter().map(|(metadata, _)| metadata.clone()).collect();
        prop_assert_eq!(events.first(), Some(&Event::Prelude(std::sync::Arc::new(prelude(announced)))));
        let expected: Vec<_> = collections.into_iter()
            .filter(|(_, documents)| !documents.is_empty())
            .map(|(metadata, documents)| (metadata.namespace, documents))
            .collect();
        prop_assert_eq!(documents(&events), expected);
    }

    #[test]
    fn an_archive_without_its_end_is_never_whole(collections in collections(), part in 0.0_f64..1.0, piece in 1_usize..600) {
        let whole = written(&collections);
        let cut = ((whole.len() as f64) * part) as usize;
        // With the prelude alone it is whole when it announces nothing.
        prop_assert!(read(&whole[..cut.min(whole.len() - 1)], piece).is_err());
    }

    #[test]
    fn a_damaged_document_is_found(collections in collections(), at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let whole = written(&collections);
        let begin = written(&[]).len() + collections.iter().map(|(metadata, _)| metadata.to_document().as_bytes().len()).sum::<usize>();
        prop_assume!(begin < whole.len());
        let mut damaged = whole.clone();
        damaged[begin + at.index(whole.len() - begin)] ^= 1 << bit;
        match read(&damaged, 100) {
            Err(_) => {}
            // Names of fields in a header that nobody reads may change; documents may not.
            Ok(events) => prop_assert_eq!(documents(&events), documents(&read(&whole, 100).unwrap())),
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), piece in 1_usize..50) {
        read(&bytes, piece).ok();
        read(&[&MAGIC[..], &bytes].concat(), piece).ok();
    }

    #[test]
    fn metadata_keep_every_value(values in proptest::collection::vec(values(), 0..4)) {
        let indexes = vec![doc! { "key": { "b": 1, "a": 1 }, "values": values }];
        let metadata = Metadata { options: doc! {}, indexes, uuid: None };
        let announced = metadata.announce(Namespace::new("d", "c"), CollectionKind::TimeSeries);
        prop_assert_eq!(Metadata::of(&announced).unwrap(), metadata);
    }
}
