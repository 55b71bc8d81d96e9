//! What reflection serves, and that the protos explain themselves.

use std::collections::{BTreeMap, BTreeSet};

use chimera_wire::FILE_DESCRIPTOR_SET;
use prost::Message;
use prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet};

fn files() -> Vec<FileDescriptorProto> {
    FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap().file
}

#[test]
fn every_service_and_method_can_be_found_by_reflection() {
    let found: BTreeMap<String, BTreeSet<String>> = files()
        .iter()
        .flat_map(|file| &file.service)
        .map(|service| {
            let methods = service.method.iter().map(|m| m.name().to_owned()).collect();
            (service.name().to_owned(), methods)
        })
        .collect();
    let expected = [
        ("Analysis", vec!["GetEvidence", "GetReport", "ListReports"]),
        (
            "Control",
            vec!["Cancel", "Get", "List", "Submit", "Watch", "Workers"],
        ),
        ("WorkerSessions", vec!["Session"]),
    ];
    let expected: BTreeMap<String, BTreeSet<String>> = expected
        .into_iter()
        .map(|(name, methods)| {
            (
                name.to_owned(),
                methods.into_iter().map(ToOwned::to_owned).collect(),
            )
        })
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn the_generated_services_bear_the_names_of_the_package() {
    use tonic::server::NamedService;
    fn name<S: NamedService>() -> &'static str {
        S::NAME
    }
    struct Any;
    assert_eq!(
        name::<chimera_wire::control_server::ControlServer<Any>>(),
        "bench.v1.Control"
    );
    assert_eq!(
        name::<chimera_wire::worker_sessions_server::WorkerSessionsServer<Any>>(),
        "bench.v1.WorkerSessions"
    );
    assert_eq!(
        name::<chimera_wire::analysis_server::AnalysisServer<Any>>(),
        "bench.v1.Analysis"
    );
}

#[test]
fn no_message_holds_a_map() {
    // A map has no order on the wire, and the hash of a stream needs one.
    fn check(message: &DescriptorProto) {
        assert!(
            !message.options.as_ref().is_some_and(|o| o.map_entry()),
            "{}",
            message.name()
        );
        message.nested_type.iter().for_each(check);
    }
    files()
        .iter()
        .flat_map(|file| &file.message_type)
        .for_each(check);
}

/// Paths of `SourceCodeInfo`: field numbers of `descriptor.proto` and indices by turns.
fn documented_paths(file: &FileDescriptorProto) -> BTreeSet<Vec<i32>> {
    file.source_code_info
        .iter()
        .flat_map(|info| &info.location)
        .filter(|location| {
            location
                .leading_comments
                .as_deref()
                .is_some_and(|c| !c.trim().is_empty())
        })
        .map(|location| location.path.clone())
        .collect()
}

#[test]
fn every_message_field_value_and_method_is_documented() {
    const MESSAGE: i32 = 4;
    const ENUM: i32 = 5;
    const SERVICE: i32 = 6;
    const CHILD: i32 = 2;
    let mut bare = Vec::new();
    for file in files() {
        let documented = documented_paths(&file);
        let mut check = |path: &[i32], what: String| {
            if !documented.contains(path) {
                bare.push(format!("{}: {what}", file.name()));
            }
        };
        for (m, message) in (0..).zip(&file.message_type) {
            check(&[MESSAGE, m], message.name().to_owned());
            for (f, field) in (0..).zip(&message.field) {
                check(
                    &[MESSAGE, m, CHILD, f],
                    format!("{}.{}", message.name(), field.name()),
                );
            }
        }
        for (e, enumeration) in (0..).zip(&file.enum_type) {
            check(&[ENUM, e], enumeration.name().to_owned());
            for (v, value) in (0..).zip(&enumeration.value) {
                check(&[ENUM, e, CHILD, v], value.name().to_owned());
            }
        }
        for (s, service) in (0..).zip(&file.service) {
            check(&[SERVICE, s], service.name().to_owned());
            for (m, method) in (0..).zip(&service.method) {
                check(
                    &[SERVICE, s, CHILD, m],
                    format!("{}.{}", service.name(), method.name()),
                );
            }
        }
    }
    assert!(bare.is_empty(), "without a comment: {bare:#?}");
}
