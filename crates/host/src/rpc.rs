//! gRPC to one plugin, over one connection that is already open. Private to this crate: whoever could call a plugin from
//! elsewhere would have a way past the gate.

mod call;
mod channel;
mod stdio;

use std::time::Duration;

use sigil_proto::MAX_MESSAGE;
use sigil_proto::goplugin::Empty;
use sigil_proto::goplugin::grpc_controller_client::GrpcControllerClient;
use sigil_proto::goplugin::grpc_stdio_client::GrpcStdioClient;
use sigil_proto::health::HealthCheckRequest;
use sigil_proto::health::health_check_response::ServingStatus;
use sigil_proto::health::health_client::HealthClient;
use sigil_proto::v1::plugin_client::PluginClient;
use sigil_proto::v1::tool_plugin_client::ToolPluginClient;
use sigil_proto::v1::{
    DescribeRequest, HealthRequest, InitRequest, InitResponse, ShutdownRequest, ToolDescription, health_response,
};
use tokio::net::UnixStream;
use tonic::{Code as GrpcCode, Status};

pub(crate) use call::{Answer, Call};
use channel::Channel;
pub(crate) use channel::Connection;

/// Why a plugin did not answer as it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RpcFailed {
    /// The connection could not be opened, or is gone.
    #[error("the connection to the plugin is gone")]
    Closed,
    /// No answer in time.
    #[error("the plugin did not answer within {0:?}")]
    Timeout(Duration),
    /// What came is not the protocol.
    #[error("the plugin does not speak the protocol: {0}")]
    Protocol(&'static str),
    /// The plugin refused. Its own words are kept apart.
    #[error("the plugin refused ({code:?})")]
    Refused {
        /// gRPC's code.
        code: GrpcCode,
        /// The plugin's words: untrusted.
        message: String,
    },
}

impl From<Status> for RpcFailed {
    fn from(status: Status) -> Self {
        match status.code() {
            GrpcCode::Unavailable | GrpcCode::Cancelled => Self::Closed,
            GrpcCode::Unimplemented => Self::Protocol("a method is missing"),
            GrpcCode::OutOfRange => Self::Protocol("a message is larger than 4 MiB"),
            // hyper's errors come as `Unknown` with a source; a plugin's own `Unknown` has none.
            GrpcCode::Unknown | GrpcCode::Internal if std::error::Error::source(&status).is_some() => Self::Closed,
            code => Self::Refused { code, message: status.message().chars().take(500).collect() },
        }
    }
}

/// How a plugin is asked how it is, and to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// As Sigil's own protocol says.
    Sdk,
    /// As go-plugin's servers do.
    GoPlugin,
}

/// The client of one plugin.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    dialect: Dialect,
    plugin: PluginClient<Channel>,
    tools: ToolPluginClient<Channel>,
    controller: GrpcControllerClient<Channel>,
    health: HealthClient<Channel>,
    stdio: GrpcStdioClient<Channel>,
}

impl Client {
    /// Begins to speak over `stream`. Must be called within a tokio runtime.
    pub(crate) async fn connect(stream: UnixStream, dialect: Dialect) -> Result<(Self, Connection), RpcFailed> {
        let (channel, connection) = Channel::open(stream).await?;
        let origin = http::Uri::from_static("http://plugin");
        let plugin = PluginClient::with_origin(channel.clone(), origin.clone()).max_decoding_message_size(MAX_MESSAGE);
        let tools =
            ToolPluginClient::with_origin(channel.clone(), origin.clone()).max_decoding_message_size(MAX_MESSAGE);
        let controller = GrpcControllerClient::with_origin(channel.clone(), origin.clone());
        let health = HealthClient::with_origin(channel.clone(), origin.clone());
        let stdio = GrpcStdioClient::with_origin(channel, origin).max_decoding_message_size(stdio::MAX_PIECE);
        Ok((Self { dialect, plugin, tools, controller, health, stdio }, connection))
    }

    pub(crate) async fn init(&self, request: InitRequest, time: Duration) -> Result<InitResponse, RpcFailed> {
        let mut plugin = self.plugin.clone();
        Ok(within(time, async { plugin.init(request).await.map_err(RpcFailed::from) }).await?.into_inner())
    }

    pub(crate) async fn describe(&self, time: Duration) -> Result<Vec<ToolDescription>, RpcFailed> {
        let mut tools = self.tools.clone();
        let answer = within(time, async { tools.describe(DescribeRequest {}).await.map_err(RpcFailed::from) });
        Ok(answer.await?.into_inner().tools)
    }

    /// Whether the plugin says that it works.
    pub(crate) async fn healthy(&self, time: Duration) -> Result<bool, RpcFailed> {
        match self.dialect {
            Dialect::Sdk => {
                let mut plugin = self.plugin.clone();
                let answer =
                    within(time, async { plugin.health(HealthRequest {}).await.map_err(RpcFailed::from) }).await?;
                Ok(answer.into_inner().status() != health_response::Status::Failed)
            }
            Dialect::GoPlugin => {
                let mut health = self.health.clone();
                let request = HealthCheckRequest { service: "plugin".to_owned() };
                let answer = within(time, async { health.check(request).await.map_err(RpcFailed::from) }).await?;
                Ok(answer.into_inner().status() == ServingStatus::Serving)
            }
        }
    }

    /// Asks the plugin to end. That it has ended, only its process says.
    pub(crate) async fn shutdown(&self, grace: Duration) {
        let asked = async {
            match self.dialect {
                Dialect::Sdk => {
                    let grace_ms = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
                    let _ = self.plugin.clone().shutdown(ShutdownRequest { grace_ms }).await;
                }
                // It stops its server before it answers: an error is how success looks.
                Dialect::GoPlugin => drop(self.controller.clone().shutdown(Empty {}).await),
            }
            Ok(())
        };
        let _ = within(grace, asked).await;
    }
}

/// Runs `work` for at most `time`.
async fn within<T>(time: Duration, work: impl Future<Output = Result<T, RpcFailed>>) -> Result<T, RpcFailed> {
    tokio::time::timeout(time, work).await.unwrap_or(Err(RpcFailed::Timeout(time)))
}
