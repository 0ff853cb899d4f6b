//! Nothing: the programs are in `benches`, where Cargo tells them its directory for temporary files.
