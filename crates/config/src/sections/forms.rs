//! Written forms as schemas: what stands in for types that are only text on paper.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

macro_rules! form {
    ($($name:ident = $format:literal),+ $(,)?) => {$(
        #[doc = concat!("A text of the form `", $format, "`.")]
        pub(super) struct $name;

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "format": $format})
            }
        }
    )+};
}

form!(NameForm = "name", HostForm = "host", PatternForm = "capability-pattern");
