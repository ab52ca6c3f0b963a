//! The system calls that evenly makes, and a filter that leaves no others (seccomp(2)).
//!
//! A successor inherits it, so that the list is enough for a start too: the dynamic loader, threads, files, sockets. What is not listed
//! fails with ENOSYS, as on a kernel that lacks it: the C library and the standard library have another way then, where EPERM would
//! be taken for an answer. It ends no process: a call that was forgotten is an error, not an outage.

use nix::libc;
use rustix::io::Errno;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Is, SeccompCondition,
    SeccompFilter, SeccompRule, apply_filter_all_threads,
};

/// Those that may have any arguments. x86-64 has older names beside those that every architecture has.
#[rustfmt::skip]
const ANY: &[libc::c_long] = &[
    // Files and descriptors.
    libc::SYS_read, libc::SYS_write, libc::SYS_readv, libc::SYS_writev, libc::SYS_pread64, libc::SYS_pwrite64,
    libc::SYS_lseek, libc::SYS_openat, libc::SYS_close, libc::SYS_close_range, libc::SYS_fstat, libc::SYS_newfstatat,
    libc::SYS_statx, libc::SYS_fstatfs, libc::SYS_statfs, libc::SYS_getdents64, libc::SYS_readlinkat, libc::SYS_faccessat,
    libc::SYS_faccessat2, libc::SYS_getcwd, libc::SYS_fcntl, libc::SYS_dup, libc::SYS_dup3, libc::SYS_pipe2,
    libc::SYS_ftruncate, libc::SYS_fchmod, libc::SYS_fchmodat, libc::SYS_mkdirat, libc::SYS_unlinkat, libc::SYS_renameat,
    libc::SYS_renameat2, libc::SYS_umask, libc::SYS_memfd_create,
    // Sockets and waiting for them.
    libc::SYS_socketpair, libc::SYS_bind, libc::SYS_listen, libc::SYS_accept, libc::SYS_accept4, libc::SYS_connect,
    libc::SYS_getsockname, libc::SYS_getpeername, libc::SYS_sendto, libc::SYS_recvfrom, libc::SYS_sendmsg, libc::SYS_recvmsg,
    libc::SYS_sendmmsg, libc::SYS_recvmmsg, libc::SYS_shutdown, libc::SYS_setsockopt, libc::SYS_getsockopt,
    libc::SYS_epoll_create1, libc::SYS_epoll_ctl, libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2, libc::SYS_eventfd2,
    libc::SYS_ppoll, libc::SYS_pselect6,
    // Memory: mmap and mprotect are below.
    libc::SYS_brk, libc::SYS_munmap, libc::SYS_mremap, libc::SYS_madvise, libc::SYS_membarrier,
    // Threads and processes.
    libc::SYS_futex, libc::SYS_set_robust_list, libc::SYS_set_tid_address, libc::SYS_rseq, libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity, libc::SYS_getcpu, libc::SYS_getpriority, libc::SYS_setpriority, libc::SYS_gettid,
    libc::SYS_getpid, libc::SYS_getppid, libc::SYS_getuid, libc::SYS_geteuid, libc::SYS_getgid, libc::SYS_getegid,
    libc::SYS_getresuid, libc::SYS_getresgid, libc::SYS_getgroups, libc::SYS_execve, libc::SYS_wait4, libc::SYS_waitid,
    libc::SYS_kill, libc::SYS_tgkill, libc::SYS_pidfd_open, libc::SYS_pidfd_send_signal, libc::SYS_exit,
    libc::SYS_exit_group, libc::SYS_prlimit64,
    // What takes rights away.
    libc::SYS_prctl, libc::SYS_seccomp, libc::SYS_landlock_create_ruleset, libc::SYS_landlock_add_rule,
    libc::SYS_landlock_restrict_self,
    // Signals.
    libc::SYS_rt_sigaction, libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn, libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    // Time, chance, and what machine this is.
    libc::SYS_clock_gettime, libc::SYS_clock_getres, libc::SYS_clock_nanosleep, libc::SYS_nanosleep, libc::SYS_gettimeofday,
    libc::SYS_getrandom, libc::SYS_uname, libc::SYS_sysinfo,
];

#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const OLDER: &[libc::c_long] = &[
    libc::SYS_open, libc::SYS_stat, libc::SYS_lstat, libc::SYS_readlink, libc::SYS_access, libc::SYS_dup2, libc::SYS_pipe,
    libc::SYS_chmod, libc::SYS_mkdir, libc::SYS_unlink, libc::SYS_rmdir, libc::SYS_rename, libc::SYS_getdents, libc::SYS_epoll_create,
    libc::SYS_epoll_wait, libc::SYS_eventfd, libc::SYS_poll, libc::SYS_select, libc::SYS_vfork, libc::SYS_getrlimit,
    libc::SYS_setrlimit, libc::SYS_arch_prctl, libc::SYS_time,
];

#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[libc::c_long] = &[];

/// What ioctl(2) may ask: to block or not, how much waits, whether it is a terminal.
#[rustfmt::skip]
const REQUESTS: &[u64] = &[
    libc::FIONBIO, libc::FIONREAD, libc::TIOCOUTQ, libc::FIOCLEX, libc::TCGETS, libc::TIOCGWINSZ,
    // TCGETS2, which later C libraries ask, on both architectures.
    0x802c_542a,
];

/// Kinds of namespaces, of which clone(2) may make none: CLONE_NEWTIME has its bit in the signal of clone, which is not a flag there.
const NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u64;

const WRITE: u64 = libc::PROT_WRITE as u64;
const EXECUTE: u64 = libc::PROT_EXEC as u64;

/// What the argument of that number must be, of 32 bits. Several of them: one is enough.
fn argument(
    number: u8,
    conditions: &[(Is, u64)],
) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let rule = |(is, value): &(Is, u64)| {
        SeccompRule::new(vec![SeccompCondition::new(number, Length::Dword, is.clone(), *value)?])
    };
    conditions.iter().map(rule).collect()
}

fn program() -> Result<BpfProgram, seccompiler::BackendError> {
    let equal = |values: &[u64]| values.iter().map(|&value| (Is::Eq, value)).collect::<Vec<_>>();
    let families =
        [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6].map(|it| u64::from(it.unsigned_abs()));
    let unset = |bits| (Is::MaskedEq(bits), 0);
    // clone3 has its flags in memory, where no filter sees them: the C library takes clone where it is missing.
    let judged = [
        (libc::SYS_clone, argument(0, &[unset(NAMESPACES)])?),
        (libc::SYS_socket, argument(0, &equal(&families))?),
        (libc::SYS_ioctl, argument(1, &equal(REQUESTS))?),
        (libc::SYS_mmap, argument(2, &[unset(WRITE), unset(EXECUTE)])?),
        (libc::SYS_mprotect, argument(2, &[unset(EXECUTE)])?),
    ];
    let any = ANY.iter().chain(OLDER).map(|&call| (call, Vec::new()));
    let missing = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let arch = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(any.chain(judged).collect(), missing, SeccompAction::Allow, arch)?.try_into()
}

/// Has all threads of this process, and every process it starts, make only these calls.
///
/// # Errors
/// What the kernel or the architecture lacks.
pub(super) fn filter() -> Result<(), String> {
    // Allowed everywhere, and not here: a predecessor has put its filter up, which a second one would only make slower. Not getsid(2): in
    // a container whose session began outside its namespace of processes that returns 0, which is nobody's number.
    if rustix::thread::capabilities(None).is_err_and(|error| error == Errno::NOSYS) {
        return Ok(());
    }
    let program =
        program().map_err(|error| format!("no filter for {}: {error}", std::env::consts::ARCH))?;
    apply_filter_all_threads(&program).map_err(|error| {
        format!("this kernel takes no seccomp filter ({error}); it needs CONFIG_SECCOMP_FILTER")
    })
}
