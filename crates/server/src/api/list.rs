//! Pages of lists.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

macro_rules! list {
    ($($(#[$doc:meta])* $name:ident of $item:ty),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
        pub struct $name {
            /// The things; `[]` when there are none.
            pub items: Vec<$item>,
            /// What to send as `cursor` for the next page; `null` after the last.
            pub next_cursor: Option<String>,
        }

        impl From<crate::Page<$item>> for $name {
            fn from(page: crate::Page<$item>) -> Self {
                Self { items: page.items, next_cursor: page.next }
            }
        }
    )+};
}

list!(
    /// A page of sessions, newest first.
    SessionList of super::Session,
    /// A page of messages, oldest first.
    MessageList of super::Message,
    /// Questions, oldest first.
    ApprovalList of super::Approval,
    /// A page of audit entries.
    AuditEventList of super::AuditEvent,
    /// Plugins by name.
    PluginList of super::Plugin,
);
