//! The record on disk: one file per server, for this user alone, replaced atomically. Blocks.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::{Approval, Record};
use crate::store::{self, hex};

/// First word of every file.
const FORMAT: &str = "mainstay-pins-1";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    server: String,
    tools: BTreeMap<String, Tool>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tool {
    digest: String,
    approved_at_unix_ms: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    further: bool,
    definition: Box<RawValue>,
}

/// Reads the record of a server. Only a file that is not there means that the server was never seen.
pub(super) fn read(dir: &Path, server: &str) -> Record {
    let path = path(dir, server);
    let read = store::read_bounded(&path).and_then(|bytes| parse(&bytes, server));
    match read {
        Ok(approved) => Record::Approved(approved),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Record::Unknown,
        Err(error) => {
            tracing::error!(server, path = %path.display(), %error, "the record of approved tools cannot be used: all tools are held back");
            Record::Damaged(format!("{}: {error}", path.display()).into())
        }
    }
}

fn parse(bytes: &[u8], server: &str) -> io::Result<BTreeMap<Box<str>, Approval>> {
    let damaged = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let body = store::checked(bytes, FORMAT)?;
    let body: Body = serde_json::from_slice(body)?;
    if body.server != server {
        return Err(damaged("it is the record of another server"));
    }
    let approval = |(name, tool): (String, Tool)| {
        let definition = tool.definition.get();
        if digest(definition) != tool.digest {
            return Err(damaged("a definition is not the one that was approved"));
        }
        let approval = Approval {
            definition: definition.into(),
            at_unix_ms: tool.approved_at_unix_ms,
            further: tool.further,
        };
        Ok((name.into(), approval))
    };
    body.tools.into_iter().map(approval).collect()
}

/// Replaces the record of a server.
pub(super) fn write(
    dir: &Path,
    server: &str,
    approved: &BTreeMap<Box<str>, Approval>,
) -> io::Result<()> {
    let mut tools = BTreeMap::new();
    for (name, approval) in approved {
        let tool = Tool {
            digest: digest(&approval.definition),
            approved_at_unix_ms: approval.at_unix_ms,
            further: approval.further,
            definition: RawValue::from_string(approval.definition.to_string())?,
        };
        tools.insert(name.to_string(), tool);
    }
    let body = Body {
        server: server.to_owned(),
        tools,
    };
    store::replace(dir, &path(dir, server), FORMAT, &serde_json::to_vec(&body)?)
}

/// Keeps a damaged record for whoever wants to look at it.
pub(super) fn put_aside(dir: &Path, server: &str) {
    let path = path(dir, server);
    // It is about to be replaced; that it is not kept costs only the look at it.
    let _ = std::fs::rename(&path, path.with_extension("damaged"));
}

fn path(dir: &Path, server: &str) -> PathBuf {
    store::file_of(dir, "pins", server)
}

fn digest(definition: &str) -> String {
    format!("sha256:{}", hex(&Sha256::digest(definition.as_bytes())))
}
