//! An endpoint for Prometheus: one text, at `/metrics`.
//!
//! It is for a scraper on this host or network and nothing else: one request per connection, a few
//! connections at once, a limit on each. What a scrape costs is what the text costs.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What the text is: OpenMetrics 1.0, which Prometheus reads since 2.5.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Scrapes served at once; more wait in the listener's queue.
const MAX_CONNECTIONS: usize = 8;
/// Longest life of a connection, a peer that sends nothing included.
const CONNECTION_LIMIT: Duration = Duration::from_secs(10);
/// Pause after a connection could not be taken (no more files): trying at once would spin.
const PAUSE: Duration = Duration::from_millis(100);

/// Gives the text of `render`, in OpenMetrics, to whoever asks for `/metrics`, until `stop` trips.
/// Scrapes under way are cut then.
///
/// `render` is called for every scrape, on a thread of the async runtime: it may not block.
pub async fn serve<F>(listener: TcpListener, stop: CancellationToken, render: F)
where
    F: Fn() -> String + Send + Sync + 'static,
{
    let render = Arc::new(render);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    let accepting = async {
        loop {
            // Never closed.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            while connections.try_join_next().is_some() {}
            match listener.accept().await {
                Ok((stream, _)) => {
                    let render = Arc::clone(&render);
                    connections.spawn(async move {
                        let served = answer(stream, render);
                        match tokio::time::timeout(CONNECTION_LIMIT, served).await {
                            Ok(Ok(())) => {}
                            Ok(Err(error)) => tracing::debug!(%error, "a scrape was cut"),
                            Err(_) => tracing::debug!("a scraper was too slow"),
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot take a connection for metrics");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    };
    // Cutting is safe: a scrape has no effect.
    tokio::select! {
        () = accepting => {}
        () = stop.cancelled() => {}
    }
}

async fn answer<F>(stream: TcpStream, render: Arc<F>) -> Result<(), hyper::Error>
where
    F: Fn() -> String + Send + Sync + 'static,
{
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let response = respond(request.method(), request.uri().path(), &*render);
        std::future::ready(Ok::<_, Infallible>(response))
    });
    http1::Builder::new()
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

fn respond(method: &Method, path: &str, render: &impl Fn() -> String) -> Response<Full<Bytes>> {
    let (status, kind, text) = match (path, method) {
        ("/metrics", &Method::GET | &Method::HEAD) => (StatusCode::OK, CONTENT_TYPE, render()),
        ("/metrics", _) => (
            StatusCode::METHOD_NOT_ALLOWED,
            "text/plain; charset=utf-8",
            "only GET\n".to_owned(),
        ),
        _ => (
            StatusCode::NOT_FOUND,
            "text/plain; charset=utf-8",
            "metrics are at /metrics\n".to_owned(),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::server::bind;

    async fn ask(address: &str, head: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("{head} HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        // Ends, since the server closes after one answer.
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn the_text_is_given_and_nothing_else() {
        let listener = bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, stop.clone(), || "up 1\n# EOF\n".to_owned()));

        let answer = ask(&address, "GET /metrics?x=1").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains(CONTENT_TYPE), "{answer}");
        assert!(answer.ends_with("\r\n\r\nup 1\n# EOF\n"), "{answer}");
        let head = ask(&address, "HEAD /metrics").await;
        assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"));
        assert!(ask(&address, "POST /metrics").await.contains(" 405 "));
        assert!(ask(&address, "GET /").await.contains(" 404 "));
        stop.cancel();
        tasks.join_next().await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn scrapers_that_say_nothing_do_not_keep_others_out_for_ever() {
        let listener = bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, stop.clone(), || "# EOF\n".to_owned()));
        let mut silent = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            silent.push(TcpStream::connect(&address).await.unwrap());
        }
        tokio::time::pause();
        let answer = ask(&address, "GET /metrics").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        stop.cancel();
        tasks.join_next().await.unwrap().unwrap();
    }
}
