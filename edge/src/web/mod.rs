//! The device's own page: what the camera sees, scores against the threshold, events, and what may be changed. Rendered here, with
//! one small script; nothing is asked of any other machine.
//!
//! ```text
//! request --> host (no foreign name) --> who (session, token or nobody) --> page or API
//!                                          nobody --> /login, or 401 of the API
//!                                          a form without the session's token, or from elsewhere --> 403
//! ```

pub mod access;
mod api;
mod archive;
mod events;
mod guard;
mod layout;
mod pages;
mod settings;

use crate::config::web::WebSettings;
use crate::controls::Controls;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::model::Model;
use crate::store::{Store, StoreError};
use access::Access;
use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use jiff::Timestamp;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// What connections that are open may take, at the end.
const FAREWELL: Duration = Duration::from_secs(1);

/// What the page is of.
pub struct Page {
    /// The device's name.
    pub name: String,
    /// What the pipeline shows.
    pub live: Arc<Live>,
    /// What can be changed.
    pub controls: Arc<Controls>,
    /// Events and settings.
    pub store: Arc<Store>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The model that runs.
    pub model: Model,
    /// When the program started, UTC.
    pub started: Timestamp,
    /// Who may see it.
    pub access: Access,
    /// Names that the page may be asked for under.
    pub names: Vec<String>,
}

/// Why the page cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// The address.
    #[error("web.listen = {address}: {source}; name another address, or end what listens there")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The operating system's words.
        source: io::Error,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The thread cannot be started.
    #[error("the page's thread: {0}")]
    Thread(io::Error),
}

/// The page's thread; it ends when this is dropped.
#[derive(Debug)]
pub struct Web {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Web {
    /// Serves the page that `page` makes of its door.
    pub fn start(
        settings: &WebSettings,
        store: Arc<Store>,
        page: impl FnOnce(Access) -> Page,
    ) -> Result<Web, WebError> {
        let failed = |source| WebError::Listen { address: settings.listen, source };
        let listener = std::net::TcpListener::bind(settings.listen).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let router = router(Arc::new(page(Access::new(store, !address.ip().is_loopback())?)));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(WebError::Thread)?;
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            let served = runtime.block_on(async {
                let listener = TcpListener::from_std(listener)?;
                let service = router.into_make_service_with_connect_info::<SocketAddr>();
                let until = async {
                    let _ = stopped.await;
                };
                axum::serve(listener, service).with_graceful_shutdown(until).await
            });
            if let Err(error) = served {
                log::error!("the page is no longer served: {error}");
            }
            runtime.shutdown_timeout(FAREWELL);
        };
        let thread = thread::Builder::new().name("web".to_owned()).spawn(serve).map_err(WebError::Thread)?;
        log::info!("the page is at http://{address}/");
        Ok(Web { stop: Some(stop), thread: Some(thread), address })
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        drop(self.stop.take());
        // Connections that stay open are left to the end of the process.
        let start = std::time::Instant::now();
        while self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) && start.elapsed() < FAREWELL {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// All there is to ask for.
pub fn router(page: Arc<Page>) -> Router {
    let inner = Router::new()
        .route("/", get(pages::live))
        .route("/events", get(events::list))
        .route("/events/{id}", get(events::event))
        .route("/events/{id}/snapshot.jpg", get(events::snapshot))
        .route("/events/{id}/frames/{number}", get(events::frame))
        .route("/events/{id}/normal", post(events::normal))
        .route("/events/{id}/archive.zip", get(events::zip))
        .route("/prototypes/{number}", get(events::prototype))
        .route("/normal", get(settings::enrolled))
        .route("/normal/undo", post(settings::undo))
        .route("/normal/{id}/{number}", get(settings::enrolled_frame))
        .route("/health", get(pages::health))
        .route("/settings", get(settings::settings))
        .route("/settings/threshold", post(settings::threshold))
        .route("/settings/pause", post(settings::pause))
        .route("/settings/password", post(settings::password))
        .route("/settings/token", post(settings::token))
        .route("/settings/revoke", post(settings::revoke))
        .route("/logout", post(pages::log_out))
        .route("/api", get(pages::api))
        .nest("/api/v1", api::router())
        .route("/metrics", get(api::metrics))
        .layer(from_fn_with_state(Arc::clone(&page), guard::known));
    Router::new()
        .merge(inner)
        .route("/login", get(pages::login).post(pages::log_in))
        .route("/first", get(pages::first).post(pages::set_first))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(api::ready))
        .route("/api/openapi.json", get(api::description))
        .route("/style.css", get(async || asset("text/css", include_str!("ui/style.css"))))
        .route("/script.js", get(async || asset("text/javascript", include_str!("ui/script.js"))))
        .fallback(pages::missing)
        .layer(from_fn_with_state(Arc::clone(&page), guard::host))
        .layer(from_fn(guard::headers))
        .with_state(page)
}

/// A file that is part of the program; its address carries the program's version.
fn asset(kind: &'static str, text: &'static str) -> impl IntoResponse {
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "public, max-age=31536000, immutable")], text)
}
