//! Hypercall numbers (`xen.h`). Calling convention on x86-64: number in RAX, arguments in RDI, RSI, RDX, R10, R8,
//! result in RAX (negative: an [`super::errno`]), all other registers kept.

/// `__HYPERVISOR_platform_op`, argument `xen_platform_op`
pub const PLATFORM_OP: u64 = 7;
/// `__HYPERVISOR_memory_op`
pub const MEMORY_OP: u64 = 12;
/// `__HYPERVISOR_multicall`, arguments: address and count of [`MulticallEntry`]
pub const MULTICALL: u64 = 13;
/// `__HYPERVISOR_set_timer_op`, argument: nanoseconds of system time
pub const SET_TIMER_OP: u64 = 15;
/// `__HYPERVISOR_xen_version`
pub const XEN_VERSION: u64 = 17;
/// `__HYPERVISOR_console_io`
pub const CONSOLE_IO: u64 = 18;
/// `__HYPERVISOR_grant_table_op`
pub const GRANT_TABLE_OP: u64 = 20;
/// `__HYPERVISOR_vm_assist`, arguments: command and type, see [`assist`]
pub const VM_ASSIST: u64 = 21;
/// `__HYPERVISOR_vcpu_op`
pub const VCPU_OP: u64 = 24;
/// `__HYPERVISOR_mmuext_op`
pub const MMUEXT_OP: u64 = 26;
/// `__HYPERVISOR_xsm_op`
pub const XSM_OP: u64 = 27;
/// `__HYPERVISOR_sched_op`
pub const SCHED_OP: u64 = 29;
/// `__HYPERVISOR_event_channel_op`
pub const EVENT_CHANNEL_OP: u64 = 32;
/// `__HYPERVISOR_physdev_op`
pub const PHYSDEV_OP: u64 = 33;
/// `__HYPERVISOR_hvm_op`
pub const HVM_OP: u64 = 34;
/// `__HYPERVISOR_sysctl`, argument `xen_sysctl`
pub const SYSCTL: u64 = 35;
/// `__HYPERVISOR_domctl`, argument `xen_domctl`
pub const DOMCTL: u64 = 36;
/// `__HYPERVISOR_xenpmu_op`
pub const XENPMU_OP: u64 = 40;
/// `__HYPERVISOR_dm_op`
pub const DM_OP: u64 = 41;
/// `__HYPERVISOR_hypfs_op`
pub const HYPFS_OP: u64 = 42;
/// `__HYPERVISOR_arch_1`: `paging_domctl_cont`, where a long `domctl` goes on
pub const PAGING_DOMCTL_CONT: u64 = 49;
/// Atoll's control hypercalls, domain 0 only: `__HYPERVISOR_arch_7`, in the range Xen reserves for the
/// architecture. Operations are in [`crate::control::hypercall`].
pub const ATOLL_CONTROL: u64 = 55;

pub use super::version;

/// `multicall_entry`: one call in a list of them.
#[derive(Clone, Copy, Debug, Default, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)]
#[repr(C)]
pub struct MulticallEntry {
    /// In: the call's number.
    pub op: u64,
    /// Out: what it would have left in RAX.
    pub result: u64,
    /// In: its arguments; the sixth is never used.
    pub args: [u64; 6],
}

/// [`VM_ASSIST`]: RDI = command, RSI = type.
pub mod assist {
    /// `VMASST_CMD_enable`
    pub const ENABLE: u32 = 0;
    /// `VMASST_CMD_disable`
    pub const DISABLE: u32 = 1;
    /// `VMASST_TYPE_runstate_update_flag`: bit 63 of a runstate's entry time is set while the area is written. The only
    /// type that a guest with its own page tables has.
    pub const RUNSTATE_UPDATE_FLAG: u32 = 5;
}

/// Sub-operations of [`CONSOLE_IO`]: RDI = operation, RSI = count of bytes, RDX = their address.
pub mod console_io {
    /// `CONSOLEIO_write`
    pub const WRITE: u64 = 0;
    /// `CONSOLEIO_read`
    pub const READ: u64 = 1;
}

/// Sub-operations of [`VCPU_OP`] (`vcpu.h`): RDI = operation, RSI = vCPU, RDX = argument's address.
pub mod vcpu {
    /// `VCPUOP_initialise`, argument [`crate::xen::vcpu::HvmContext`].
    pub const INITIALISE: u64 = 0;
    /// `VCPUOP_up`
    pub const UP: u64 = 1;
    /// `VCPUOP_down`
    pub const DOWN: u64 = 2;
    /// `VCPUOP_is_up`: 1, 0, or an error.
    pub const IS_UP: u64 = 3;
    /// `VCPUOP_get_runstate_info`, argument [`crate::xen::vcpu_time::RunstateInfo`].
    pub const GET_RUNSTATE_INFO: u64 = 4;
    /// `VCPUOP_register_runstate_memory_area`, argument [`crate::xen::vcpu_time::RegisterArea`].
    pub const REGISTER_RUNSTATE_MEMORY_AREA: u64 = 5;
    /// `VCPUOP_set_periodic_timer`, argument [`crate::xen::vcpu_time::SetPeriodicTimer`].
    pub const SET_PERIODIC_TIMER: u64 = 6;
    /// `VCPUOP_stop_periodic_timer`, no argument.
    pub const STOP_PERIODIC_TIMER: u64 = 7;
    /// `VCPUOP_set_singleshot_timer`, argument [`crate::xen::vcpu_time::SetSingleshotTimer`].
    pub const SET_SINGLESHOT_TIMER: u64 = 8;
    /// `VCPUOP_stop_singleshot_timer`, no argument.
    pub const STOP_SINGLESHOT_TIMER: u64 = 9;
    /// `VCPUOP_register_vcpu_info`, argument [`crate::xen::vcpu_time::RegisterVcpuInfo`].
    pub const REGISTER_VCPU_INFO: u64 = 10;
    /// `VCPUOP_send_nmi`, no argument.
    pub const SEND_NMI: u64 = 11;
    /// `VCPUOP_get_physid`, argument [`crate::xen::vcpu_time::GetPhysid`].
    pub const GET_PHYSID: u64 = 12;
    /// `VCPUOP_register_vcpu_time_memory_area`, argument [`crate::xen::vcpu_time::RegisterArea`].
    pub const REGISTER_VCPU_TIME_MEMORY_AREA: u64 = 13;
}
