//! The server's own metrics, in the Prometheus text format (version 0.0.4).

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use http::StatusCode;

/// Counters and gauges of the server.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    by_class: [AtomicU64; 5],
    connections: AtomicU64,
    refused_connections: AtomicU64,
}

impl Metrics {
    pub(crate) fn request(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        if let Some(counter) = self.by_class.get(class) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn connected(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn disconnected(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn refused_connection(&self) {
        self.refused_connections.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds the server's lines to those of the rest.
    pub(crate) fn write(&self, text: &mut String, streams: usize) {
        text.push_str("# HELP sigil_http_requests_total Requests answered, by class of status.\n# TYPE sigil_http_requests_total counter\n");
        for (class, counter) in (1..).zip(&self.by_class) {
            let count = counter.load(Ordering::Relaxed);
            _ = writeln!(text, "sigil_http_requests_total{{status=\"{class}xx\"}} {count}");
        }
        let gauges = [
            ("sigil_http_connections", "Open connections.", self.connections.load(Ordering::Relaxed)),
            ("sigil_http_streams", "Open event streams.", streams as u64),
        ];
        for (name, help, value) in gauges {
            _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
        }
        let refused = self.refused_connections.load(Ordering::Relaxed);
        _ = writeln!(
            text,
            "# HELP sigil_http_connections_refused_total Connections closed at the limit.\n# TYPE sigil_http_connections_refused_total counter\nsigil_http_connections_refused_total {refused}"
        );
    }
}
