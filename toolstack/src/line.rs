//! A two-way byte stream: the emulator's second serial port (TCP) or the holder's socket (Unix).

use std::{
    fs::File,
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::{
        fd::AsRawFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::Path,
    time::{Duration, Instant},
};

/// One end of a control line.
#[derive(Debug)]
pub enum Line {
    /// To an emulator.
    Tcp(TcpStream),
    /// To the process that holds a machine.
    Unix(UnixStream),
}

impl Line {
    /// A second handle on the same line.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(stream) => Self::Tcp(stream.try_clone()?),
            Self::Unix(stream) => Self::Unix(stream.try_clone()?),
        })
    }

    /// Ends the line for every handle on it; a thread that reads sees its end.
    pub fn shutdown(&self) {
        // A line that the other side has closed already cannot be shut down, and need not be.
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }

    /// Connects to an emulator on this host, again and again until `patience` is over: it takes a moment to listen.
    pub fn connect_tcp(port: u16, patience: Duration) -> io::Result<Self> {
        let start = Instant::now();
        loop {
            match TcpStream::connect(("127.0.0.1", port)) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(Self::Tcp(stream));
                }
                Err(error) if start.elapsed() > patience => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// Connects to the socket `name` in `directory`.
    pub fn connect_unix(directory: &Path, name: &str) -> io::Result<Self> {
        let directory = File::open(directory)?;
        UnixStream::connect(short_path(&directory, name)).map(Self::Unix)
    }
}

/// Listens on a socket `name` in `directory`.
pub fn listen_unix(directory: &Path, name: &str) -> io::Result<UnixListener> {
    let directory = File::open(directory)?;
    UnixListener::bind(short_path(&directory, name))
}

/// A socket's path may have 107 bytes, which a deep target directory exceeds. A path through the open directory is
/// always short.
fn short_path(directory: &File, name: &str) -> String {
    format!("/proc/self/fd/{}/{name}", directory.as_raw_fd())
}

/// A TCP port nobody listens on now.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

impl Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.flush(),
            Self::Unix(stream) => stream.flush(),
        }
    }
}
