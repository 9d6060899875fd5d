//! tmp
use super::*; use super::era::EraHint;
#[derive(Debug)] pub struct HttpLink;
pub struct HttpSetup { pub url: String, pub headers: Vec<(String,String)>, pub limits: mainstay_wire::envelope::Limits, pub connect_ms: u64 }
pub enum PushEnd { Unsupported, SessionLost }
impl HttpLink {
  pub fn new(_: HttpSetup) -> Result<Self, Failure> { todo!() }
  pub async fn greet(&self, _ids: &AtomicU64, _hint: EraHint, _probe_ms: u64, _inbound: &dyn Inbound) -> Result<Greeting, Failure> { todo!() }
  pub async fn exchange(&self, _outgoing: Outgoing, _inbound: &dyn Inbound) -> Result<Message, Miss> { todo!() }
  pub async fn notify(&self, _message: Message) -> Result<(), Failure> { todo!() }
  pub async fn push(&self, _greeting: &Greeting, _inbound: &dyn Inbound, _gap: &(dyn Fn() + Sync)) -> PushEnd { todo!() }
  pub async fn close(&self) { todo!() }
}
