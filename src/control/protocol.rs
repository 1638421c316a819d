//! Varlink's messages: a JSON object and a NUL byte, a call one way and a reply the other.
//!
//! ```text
//! {"method":"org.tunnel64d.Status"}NUL
//!                                 {"parameters":{"status":{…}}}NUL
//! {"method":"org.tunnel64d.Sttus"}NUL
//!   {"error":"org.varlink.service.MethodNotFound","parameters":{"method":"org.tunnel64d.Sttus"}}NUL
//! ```

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Our interface.
pub const INTERFACE: &str = "org.tunnel64d";

/// Its definition, with all that a status has.
pub const DESCRIPTION: &str = include_str!("org.tunnel64d.varlink");

/// The interface that every Varlink service has.
pub const SERVICE: &str = "org.varlink.service";

/// Its definition, as the specification has it.
pub const SERVICE_DESCRIPTION: &str = include_str!("org.varlink.service.varlink");

/// How long a call may be, in bytes.
pub const MAX_CALL: usize = 4096;

/// How long a reply may be, in bytes; far more than any has.
pub const MAX_REPLY: usize = 1 << 20;

/// A call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Interface and method: `org.tunnel64d.Status`.
    pub method: String,
    /// What the method wants to know.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub parameters: Value,
    /// Whether the caller waits for no reply.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub oneway: bool,
}

/// A reply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// Interface and name of the error, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What the method gives, or what there is to say of the error.
    #[serde(default)]
    pub parameters: Value,
}

/// What a reload has applied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The keys whose values are new.
    pub applied: Vec<String>,
    /// What is not in place yet, and why; it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incomplete: Option<String>,
    /// What can be done about that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// Why a reload has applied nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// The reasons, a line each.
    pub errors: Vec<String>,
    /// What can be done about them.
    #[serde(default)]
    pub remedy: String,
}

/// What a call asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Method {
    /// How things are.
    Status,
    /// Apply the configuration anew.
    Reload,
    /// Who serves here.
    Info,
    /// The definition of an interface.
    Description(&'static str),
}

impl Call {
    /// A call without parameters of a method of ours.
    pub fn ours(method: &str) -> Self {
        let method = format!("{INTERFACE}.{method}");
        Self { method, parameters: Value::Null, oneway: false }
    }

    /// What is asked for.
    ///
    /// # Errors
    /// The reply that says why that can't be had.
    pub fn method(&self) -> Result<Method, Reply> {
        let interface = self.method.rsplit_once('.').map_or("", |(interface, _)| interface);
        match self.method.as_str() {
            "org.tunnel64d.Status" => Ok(Method::Status),
            "org.tunnel64d.Reload" => Ok(Method::Reload),
            "org.varlink.service.GetInfo" => Ok(Method::Info),
            "org.varlink.service.GetInterfaceDescription" => {
                let wanted = self.parameters.get("interface").and_then(Value::as_str);
                match wanted {
                    Some(INTERFACE) => Ok(Method::Description(DESCRIPTION)),
                    Some(SERVICE) => Ok(Method::Description(SERVICE_DESCRIPTION)),
                    Some(other) => Err(Reply::interface_not_found(other)),
                    None => Err(Reply::invalid_parameter("interface")),
                }
            }
            method if matches!(interface, INTERFACE | SERVICE) => {
                Err(Reply::error("org.varlink.service.MethodNotFound", json!({ "method": method })))
            }
            _ => Err(Reply::interface_not_found(interface)),
        }
    }
}

impl Reply {
    /// What was asked for.
    pub fn new(parameters: Value) -> Self {
        Self { error: None, parameters }
    }

    /// Why it can't be had.
    pub fn error(name: &str, parameters: Value) -> Self {
        Self { error: Some(name.to_owned()), parameters }
    }

    /// A parameter is missing, or the whole call is no JSON object.
    pub fn invalid_parameter(name: &str) -> Self {
        Self::error("org.varlink.service.InvalidParameter", json!({ "parameter": name }))
    }

    /// The daemon's main loop has not answered in time, or too many wait for it.
    pub fn busy() -> Self {
        Self::error("org.tunnel64d.Busy", json!({}))
    }

    fn interface_not_found(name: &str) -> Self {
        Self::error("org.varlink.service.InterfaceNotFound", json!({ "interface": name }))
    }
}

/// A message as it goes over the socket.
pub fn encode(message: &impl Serialize) -> Vec<u8> {
    // The messages are maps with strings as keys, which JSON has a form for.
    let mut bytes = serde_json::to_vec(message).unwrap_or_default();
    bytes.push(0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(text: &str) -> Result<Method, Reply> {
        serde_json::from_str::<Call>(text).expect("a call").method()
    }

    #[test]
    fn a_call_needs_no_more_than_its_method() {
        assert_eq!(call(r#"{"method":"org.tunnel64d.Status"}"#), Ok(Method::Status));
        let full = r#"{"method":"org.tunnel64d.Status","parameters":{},"more":false}"#;
        assert_eq!(call(full), Ok(Method::Status));
        assert_eq!(
            encode(&Call::ours("Reload")),
            b"{\"method\":\"org.tunnel64d.Reload\"}\0".as_slice()
        );
    }

    #[test]
    fn what_is_not_there_is_refused_by_the_names_that_varlink_has_for_it() {
        for (text, error) in [
            (r#"{"method":"org.tunnel64d.Sttus"}"#, "MethodNotFound"),
            (r#"{"method":"org.example.Status"}"#, "InterfaceNotFound"),
            (r#"{"method":"Status"}"#, "InterfaceNotFound"),
            (r#"{"method":"org.varlink.service.GetInterfaceDescription"}"#, "InvalidParameter"),
        ] {
            let reply = call(text).expect_err("nothing to be had");
            assert_eq!(reply.error, Some(format!("org.varlink.service.{error}")), "{text}");
        }
    }
}
