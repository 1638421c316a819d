//! One page over HTTP/1.1, for whoever watches this host.
//!
//! Those who ask are on this host, but not trusted: a connection is answered once and closed, and
//! is bounded in time and size whatever comes.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

/// How long request line and headers may be, in bytes; hyper's least.
const LONGEST_REQUEST: usize = 8192;

/// Where the page is.
const PATH: &str = "/metrics";

/// The form that the page is wanted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus's text format 0.0.4.
    Text,
}

impl Form {
    const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Answers the one request that comes over this connection, if that takes no longer than `patience`.
/// The page is asked for when it is wanted; without one the answer is 503.
pub async fn answer<S, P, F>(stream: S, patience: Duration, page: P)
where
    S: AsyncRead + AsyncWrite + Unpin,
    P: Fn(Form) -> F,
    F: Future<Output = Option<String>>,
{
    let page = &page;
    let service =
        service_fn(|request| async move { Ok::<_, Infallible>(reply(&request, page).await) });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(LONGEST_REQUEST)
        .serve_connection(TokioIo::new(stream), service);
    // What goes wrong concerns the one who asked, who notices.
    let _ = timeout(patience, connection).await;
}

async fn reply<P, F>(request: &Request<Incoming>, page: &P) -> Response<String>
where
    P: Fn(Form) -> F,
    F: Future<Output = Option<String>>,
{
    if request.uri().path() != PATH {
        return sentence(StatusCode::NOT_FOUND, format!("nothing is here but {PATH}\n"));
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refusal = sentence(StatusCode::METHOD_NOT_ALLOWED, "GET it\n".to_owned());
        refusal.headers_mut().insert(ALLOW, header("GET, HEAD"));
        return refusal;
    }
    let form = wanted(request);
    let Some(text) = page(form).await else {
        let why = "the tunnel is about to stop, or too busy to say\n";
        return sentence(StatusCode::SERVICE_UNAVAILABLE, why.to_owned());
    };
    let mut response = Response::new(text);
    response.headers_mut().insert(CONTENT_TYPE, header(form.content_type()));
    response
}

/// Prometheus names every form that it takes; what takes anything gets what people read.
fn wanted(request: &Request<Incoming>) -> Form {
    let mut accepted = request.headers().get_all(ACCEPT).iter();
    let open = accepted.any(|value| {
        value.to_str().is_ok_and(|value| value.contains("application/openmetrics-text"))
    });
    if open { Form::OpenMetrics } else { Form::Text }
}

fn sentence(status: StatusCode, text: String) -> Response<String> {
    let mut response = Response::new(text);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, header("text/plain; charset=utf-8"));
    response
}

fn header(value: &'static str) -> hyper::header::HeaderValue {
    hyper::header::HeaderValue::from_static(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    const PATIENCE: Duration = Duration::from_secs(5);

    /// What comes back for these bytes.
    async fn asked(request: &[u8], page: Option<&str>) -> String {
        let (mut client, server) = duplex(1 << 16);
        let talk = async {
            // It may have heard enough before the end.
            let _ = client.write_all(request).await;
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.map(|_| answer)
        };
        let page = |form| async move { page.map(|text| format!("{form:?} {text}\n")) };
        let (answer, ()) = tokio::join!(talk, answer(server, PATIENCE, page));
        answer.expect("text")
    }

    #[tokio::test]
    async fn the_page_comes_in_the_form_that_is_wanted() {
        let plain = asked(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", Some("it")).await;
        assert!(plain.starts_with("HTTP/1.1 200 OK\r\n"), "{plain}");
        assert!(plain.contains("content-type: text/plain; version=0.0.4"), "{plain}");
        assert!(plain.ends_with("\r\n\r\nText it\n"), "{plain}");
        let open = b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: \
            application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5\r\n\r\n";
        let open = asked(open, Some("it")).await;
        assert!(open.contains("content-type: application/openmetrics-text"), "{open}");
        assert!(open.ends_with("OpenMetrics it\n"), "{open}");
    }

    #[tokio::test]
    async fn head_tells_the_length_and_no_more() {
        let answer = asked(b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n", Some("it")).await;
        assert!(answer.contains("content-length: 8\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    }

    #[tokio::test]
    async fn what_is_not_there_or_not_allowed_is_refused() {
        for (request, status) in [
            ("GET / HTTP/1.1", "404 Not Found"),
            ("GET /metrics/x HTTP/1.1", "404 Not Found"),
            ("POST /metrics HTTP/1.1", "405 Method Not Allowed"),
            ("DELETE /metrics HTTP/1.1", "405 Method Not Allowed"),
            ("nonsense", "400 Bad Request"),
        ] {
            let request = format!("{request}\r\nHost: x\r\n\r\n");
            let answer = asked(request.as_bytes(), Some("it")).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request}: {answer}");
        }
    }

    #[tokio::test]
    async fn without_a_page_it_says_so() {
        let answer = asked(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", None).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    }

    #[tokio::test]
    async fn a_request_without_end_is_cut_off() {
        let endless = [b"GET /metrics HTTP/1.1\r\nX: ".to_vec(), vec![b'x'; 1 << 20]].concat();
        let answer = asked(&endless, Some("it")).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_says_nothing_is_given_up() {
        let (client, server) = duplex(64);
        let begun = tokio::time::Instant::now();
        answer(server, PATIENCE, |_| async { None }).await;
        assert_eq!(begun.elapsed(), PATIENCE);
        drop(client);
    }
}
