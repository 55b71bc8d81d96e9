//! What crosses a process: protobuf, subjects, conversions.
