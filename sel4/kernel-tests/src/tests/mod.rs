//! The tests, by what they are about. Their names are the sentences that they prove.

mod calls;
mod el0;
mod faults;
mod guests;
mod interrupts;
mod memory;
mod messages;
mod random;
mod spaces;
mod threads;
mod time;

use crate::failure::Result;
use crate::lab::Lab;

type Test = fn(&mut Lab) -> Result;

macro_rules! tests {
    ($($module:ident { $($test:ident)* })*) => {
        /// All tests with their names, in the order in which they run.
        pub const ALL: &[(&str, Test)] =
            &[$($((concat!(stringify!($module), "::", stringify!($test)), $module::$test)),*),*];
    };
}

tests! {
    time {
        the_counters_run_at_62_5_mhz
        the_physical_timer_wakes_its_thread_in_time
        the_physical_timer_is_closed_to_other_threads
    }
    memory {
        revoked_memory_can_be_used_again
        new_memory_is_cleared
        device_memory_is_not_cleared
        device_memory_cannot_become_kernel_objects
        a_frame_has_the_address_of_its_untyped
        a_read_only_page_cannot_be_written
        a_page_that_is_not_executable_cannot_be_executed
        a_page_without_rights_cannot_be_read
        an_unmapped_page_cannot_be_read
        a_remapped_page_has_its_new_rights_at_once
        a_large_page_can_be_mapped
        remapping_without_a_page_table_is_refused
    }
    faults {
        an_access_to_nothing_is_told_with_its_address
        a_thread_goes_on_when_its_fault_is_answered
        an_unknown_system_call_is_told_with_its_registers
        an_undefined_instruction_is_an_exception
        a_breakpoint_instruction_is_an_exception
        an_invocation_of_nothing_is_a_fault
    }
    messages {
        a_call_is_answered_with_its_badge_and_words
        long_messages_arrive_complete
        a_capability_travels_with_a_message
        a_capability_does_not_travel_without_grant
        notifications_gather_bits
        a_message_that_nobody_waits_for_is_dropped_on_demand
    }
    threads {
        all_36_registers_are_written_and_read_back
        a_thread_finds_its_own_thread_registers
        threads_keep_their_registers_when_preempted
        a_higher_priority_runs_first
        a_suspended_thread_stands_still
        a_thread_without_a_vcpu_stays_at_el0
        copied_registers_do_not_lead_out_of_el0
    }
    el0 {
        counters_and_cache_geometry_can_be_read
        caches_can_be_maintained_by_address
        waiting_instructions_return
        unaligned_and_exclusive_accesses_work
        privileged_registers_are_closed
    }
    guests {
        a_hypervisor_call_goes_to_the_monitor
        a_guest_cannot_make_system_calls
        waiting_and_secure_calls_trap
        registers_that_reach_others_trap
        a_device_access_without_mmu_is_told_with_its_address
        an_access_with_mmu_is_told_with_its_intermediate_address
        a_vcpus_registers_can_be_read_and_written
        guests_keep_their_registers_apart
        aarch32_programs_of_a_guest_stay_aarch32
        running_guests_can_be_deleted
        a_vcpu_moves_to_another_thread
        calls_of_a_vcpu_with_bad_arguments_are_refused
    }
    interrupts {
        an_injected_interrupt_arrives_and_its_end_is_told
        a_list_register_is_free_when_the_guest_has_ended_its_interrupt
        an_ended_interrupt_concerns_its_guest_only
        a_guests_timer_goes_all_the_way
        each_guest_has_its_own_timer
        a_timer_waits_for_its_guest
        a_guest_cannot_keep_its_monitor_from_running
        an_offset_of_the_virtual_counter_is_its_guests_own
    }
    spaces {
        address_spaces_that_share_a_vmid_stay_apart
        an_address_space_with_a_used_asid_sees_its_own_pages
        a_page_is_shared_by_all_who_map_it
        a_deleted_frame_is_gone_from_every_address_space
        flushing_works_on_frames_of_any_address_space
    }
    calls {
        the_kernels_interrupts_are_not_given_away
        a_thread_cannot_raise_priorities_beyond_its_own_maximum
        a_badge_that_is_too_long_is_cut
    }
    random {
        no_invocation_stops_the_kernel
        no_instruction_of_a_guest_stops_the_kernel
        no_instruction_of_a_thread_stops_the_kernel
    }
}
