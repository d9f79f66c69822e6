//! The protocol: which tools there are, and what a call of one becomes.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use r1seg::CancelToken;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation,
    JsonObject, ListToolsResult, PaginatedRequestParams, ProgressNotificationParam, ProgressToken,
    ServerCapabilities, ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, Peer, RoleServer, ServerHandler};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use crate::call::{Call, Progress, Step};
use crate::{Desk, Error, Failure, readable, tools, words};

/// How often a client hears of steps of the same stage.
const EVERY: Duration = Duration::from_millis(100);

/// The tools of a desk, over the protocol. A handle whose clones share the desk.
#[derive(Debug)]
pub struct Server<D> {
    desk: Arc<D>,
}

impl<D> Clone for Server<D> {
    fn clone(&self) -> Self {
        Self { desk: Arc::clone(&self.desk) }
    }
}

impl<D: Desk> From<Arc<D>> for Server<D> {
    fn from(desk: Arc<D>) -> Self {
        Self { desk }
    }
}

impl<D: Desk> Server<D> {
    /// Serves what a desk does.
    pub fn new(desk: D) -> Self {
        Self { desk: Arc::new(desk) }
    }

    /// The desk.
    pub(crate) fn desk(&self) -> Arc<D> {
        Arc::clone(&self.desk)
    }

    /// Does what a tool is called for; absent if there is no such tool.
    async fn run(&self, name: &str, args: JsonObject, call: Call) -> Option<CallToolResult> {
        let desk: &D = &self.desk;
        Some(match name {
            tools::LIST_MODELS => {
                let list = |_: crate::args::ListModels| desk.list_models(call);
                respond(args, list, readable::models).await
            }
            tools::INSPECT_VOLUME => {
                respond(args, |args| desk.inspect_volume(args, call), readable::inspected).await
            }
            tools::ASK_VOLUME => {
                respond(args, |args| desk.ask_volume(args, call), readable::outcome).await
            }
            tools::SEGMENT_VOLUME => {
                respond(args, |args| desk.segment_volume(args, call), readable::outcome).await
            }
            _ => return None,
        })
    }
}

impl<D: Desk> ServerHandler for Server<D> {
    fn get_info(&self) -> ServerConfig {
        let server = Implementation::new("r1seg", env!("CARGO_PKG_VERSION"))
            .with_title("r1seg: 3D CT reasoning segmentation")
            .with_description(
                "Questions about CT volumes, answered in words and masks. Research use only.",
            );
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(server)
            .with_instructions(tools::instructions(&self.desk.hints()))
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let tools = tools::tools(&self.desk.hints());
        tools
            .map(ListToolsResult::with_all_items)
            .map_err(|what| ErrorData::internal_error(what, None))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let (progress, mut steps) = Progress::channel();
        let stop = context.ct.clone();
        let call = Call::new(CancelToken::when(move || stop.is_cancelled()), progress)
            .of_request(context.extensions.get().cloned());
        let work = self.run(&request.name, request.arguments.unwrap_or_default(), call);
        let result = told(work, &mut steps, &context).await;
        let unknown =
            || ErrorData::invalid_params(format!("no tool is called `{}`", request.name), None);
        result.map(Into::into).ok_or_else(unknown)
    }
}

/// The result of a tool: what it gave as structured content and as text, or why it gave nothing.
async fn respond<A, R, F>(
    args: JsonObject,
    run: impl FnOnce(A) -> F,
    text: fn(&R) -> String,
) -> CallToolResult
where
    A: DeserializeOwned,
    R: Serialize,
    F: Future<Output = Result<R, Failure>>,
{
    let args = match serde_json::from_value(args.into()) {
        Ok(args) => args,
        Err(error) => return refused(&error).into(),
    };
    let found = match run(args).await {
        Ok(found) => found,
        Err(failure) => return failure.into(),
    };
    let mut result = CallToolResult::success(vec![ContentBlock::text(text(&found))]);
    result.structured_content = serde_json::to_value(&found).ok();
    result
}

/// That arguments do not fit the schema: an agent reads it and calls again.
fn refused(error: &serde_json::Error) -> Failure {
    let error = Error::arguments(
        format!("the arguments do not fit the tool: {error}"),
        "see the tool's input schema",
    );
    Failure::of_error(&error, |remedy| words(remedy).unwrap_or_default())
}

/// Waits for the work on a call, and tells the client of its steps if it wants to hear of them.
async fn told<T>(
    work: impl Future<Output = T>,
    steps: &mut mpsc::Receiver<Step>,
    context: &RequestContext<RoleServer>,
) -> T {
    let Some(token) = context.meta.get_progress_token() else { return work.await };
    let mut teller = Teller { peer: &context.peer, token, count: 0.0, last: None };
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            result = &mut work => {
                while let Ok(step) = steps.try_recv() {
                    teller.tell(step).await;
                }
                return result;
            }
            Some(step) = steps.recv() => teller.tell(step).await,
        }
    }
}

/// Tells a client of the steps of a call.
struct Teller<'a> {
    peer: &'a Peer<RoleServer>,
    token: ProgressToken,
    /// How often it has told, which is the progress that may only grow.
    count: f64,
    last: Option<(Step, Instant)>,
}

impl Teller<'_> {
    async fn tell(&mut self, step: Step) {
        let is_soon = |(last, at): &(Step, Instant)| step.continues(last) && at.elapsed() < EVERY;
        if self.last.as_ref().is_some_and(is_soon) {
            return;
        }
        self.count += 1.0;
        let step_told = ProgressNotificationParam::new(self.token.clone(), self.count)
            .with_message(step.to_string());
        // A client that is gone hears nothing, and its call is cancelled by the connection.
        let _ = self.peer.notify_progress(step_told).await;
        self.last = Some((step, Instant::now()));
    }
}
