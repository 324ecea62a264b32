//! nginx as a plain reverse proxy, as Debian packages it.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;

use rustix::process::{Signal, getuid};

use super::Gateway;
use super::api::Api;
use super::child::{Child, folder, free_port, program};

/// Starts it on this core, in front of the fake model.
pub fn start(model: SocketAddr, core: usize) -> io::Result<Gateway> {
    let folder = folder()?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
    fs::write(folder.path().join("nginx.conf"), settings(model, address))?;
    let mut command = Command::new(program("nginx")?);
    command.arg("-p").arg(folder.path()).args(["-c", "nginx.conf", "-e", "error.log"]);
    let mut child = Child::start(command, folder, &[core], Signal::TERM)?;
    child.until("nginx does not listen", |_| TcpStream::connect(address).ok())?;
    let api = Api::completions("/v1/chat/completions");
    let tree = Some(child.tree());
    Ok(Gateway { address, api, tree, database: None, record: None, child: Some(child) })
}

/// Each answer is passed on as it comes; connections are kept to both sides.
fn settings(model: SocketAddr, address: SocketAddr) -> String {
    // Told to be somebody else, it could not read its folder.
    let user = if getuid().is_root() { "user root;" } else { "" };
    format!(
        "{user}
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid nginx.pid;
error_log error.log;
events {{ worker_connections 20000; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    scgi_temp_path scgi;
    uwsgi_temp_path uwsgi;
    keepalive_requests 1000000;
    keepalive_timeout 600s;
    upstream model {{
        server {model};
        keepalive 512;
        keepalive_requests 1000000;
        keepalive_timeout 600s;
    }}
    server {{
        listen {address};
        location / {{
            proxy_pass http://model;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_buffering off;
            proxy_read_timeout 600s;
        }}
    }}
}}
"
    )
}

/// Its version, as it says itself.
pub fn version() -> io::Result<String> {
    let said = Command::new(program("nginx")?).arg("-v").output()?;
    let text = String::from_utf8_lossy(&said.stderr);
    Ok(text.trim().trim_start_matches("nginx version: ").to_owned())
}
