//! What a worker may ask of its host: a port, served by whoever wires the host.

use async_trait::async_trait;
use serde_json::Value;

use super::rpc::{RpcError, code};

/// A worker's request.
#[derive(Debug, Clone, PartialEq)]
pub struct HostRequest {
    /// Whose worker asks.
    pub plugin_key: String,
    /// What it asks, such as `state.get`.
    pub method: String,
    /// With what.
    pub params: Value,
    /// The company of the call that it asks within; `None` where it named none, or one that is over.
    pub company_id: Option<String>,
}

/// Serves workers' requests. Every request is answered, with an error where it is not offered.
#[async_trait]
pub trait HostServices: Send + Sync {
    /// The answer.
    async fn serve(&self, request: HostRequest) -> Result<Value, RpcError>;
}

/// Offers nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoServices;

#[async_trait]
impl HostServices for NoServices {
    async fn serve(&self, request: HostRequest) -> Result<Value, RpcError> {
        Err(RpcError::new(code::UNKNOWN_METHOD, format!("This host does not offer \"{}\".", request.method)))
    }
}
