//! A load balancer on Pingora as its documentation would have one written: round robin over targets that answer
//! their health check, a pool of idle connections, the three `X-Forwarded-*` fields. A peer of evenly in benchmarks.
//!
//! `peer-pingora 127.0.0.1:8080 127.0.0.1:9001 127.0.0.1:9002`; PROBE_SECONDS is the pause between two probes (5).

#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::env;
use std::error::Error as StdError;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::Uri;
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_core::services::background::background_service;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, Result};
use pingora_http::RequestHeader;
use pingora_load_balancing::LoadBalancer;
use pingora_load_balancing::health_check::HttpHealthCheck;
use pingora_load_balancing::selection::RoundRobin;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

/// What `Cargo.toml` pins.
const PINGORA: &str = "0.9.1";
/// How long a target may take to accept a connection, and to answer a probe.
const CONNECT: Duration = Duration::from_secs(1);
/// How long either side of a request may be silent.
const SILENCE: Duration = Duration::from_secs(60);
/// How many idle connections to targets are kept: more than any benchmark opens (Pingora's own default is 128).
const POOL: usize = 16_384;
/// How often another target is tried when one cannot be connected to.
const RETRIES: usize = 2;

struct Balancer {
    targets: Arc<LoadBalancer<RoundRobin>>,
}

#[async_trait]
impl ProxyHttp for Balancer {
    /// How often this request has been tried.
    type CTX = usize;

    fn new_ctx(&self) -> usize {
        0
    }

    async fn upstream_peer(&self, _: &mut Session, _: &mut usize) -> Result<Box<HttpPeer>> {
        let Some(target) = self.targets.select(b"", 256) else {
            return Error::e_explain(ErrorType::HTTPStatus(503), "no healthy target");
        };
        let mut peer = HttpPeer::new(target, false, String::new());
        peer.options.connection_timeout = Some(CONNECT);
        peer.options.read_timeout = Some(SILENCE);
        peer.options.write_timeout = Some(SILENCE);
        Ok(Box::new(peer))
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        _: &mut usize,
    ) -> Result<()> {
        if let Some(client) = session.client_addr().and_then(|address| address.as_inet()) {
            request.insert_header("X-Forwarded-For", client.ip().to_string())?;
        }
        request.insert_header("X-Forwarded-Proto", "http")?;
        if let Some(host) = request.headers.get("host").cloned() {
            request.insert_header("X-Forwarded-Host", host)?;
        }
        Ok(())
    }

    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        tries: &mut usize,
        mut error: Box<Error>,
    ) -> Box<Error> {
        *tries += 1;
        error.set_retry(*tries <= RETRIES);
        error
    }

    /// No log: without this, Pingora builds the line even when no logger takes it.
    fn suppress_error_log(&self, _: &Session, _: &usize, _: &Error) -> bool {
        true
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.split_first() {
        Some((flag, [])) if flag == "--version" => {
            println!("pingora {PINGORA}");
            ExitCode::SUCCESS
        }
        Some((listen, targets)) if !targets.is_empty() => {
            let Err(error) = serve(listen, targets);
            eprintln!("peer-pingora: {error}");
            ExitCode::FAILURE
        }
        _ => {
            eprintln!("usage: peer-pingora LISTEN TARGET...");
            ExitCode::from(2)
        }
    }
}

fn serve(listen: &str, targets: &[String]) -> Result<Infallible, Box<dyn StdError>> {
    let probes = match env::var("PROBE_SECONDS") {
        Ok(seconds) => Duration::try_from_secs_f64(seconds.parse()?)?,
        Err(_) => Duration::from_secs(5),
    };
    // Work stealing stays on, as by default: with a single thread it costs nothing that could be measured.
    let conf = ServerConf {
        threads: 1,
        upstream_keepalive_pool_size: POOL,
        max_retries: RETRIES + 1,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();

    let mut balancer = LoadBalancer::<RoundRobin>::try_from_iter(targets)?;
    let mut check = HttpHealthCheck::new("localhost", false);
    check.req.set_uri(Uri::from_static("/healthz"));
    balancer.set_health_check(Box::new(check));
    balancer.health_check_frequency = Some(probes);
    let health = background_service("health check", balancer);

    let balancer = Balancer { targets: health.task() };
    let mut proxy = http_proxy_service(&server.configuration, balancer);
    proxy.add_tcp(listen);
    server.add_service(proxy);
    server.add_service(health);
    server.run_forever();
}
