/* Counts instructions under qemu's user-mode emulation: a plugin, for scripts/count_edge.py, which compiles it.
 *
 * -plugin libcount.so,read=NUMBER: whenever the program asks for standard input, by the system call of that number, the
 * instructions since its start are written to standard error, `count N`. What a program does between one line it reads and the
 * next is then the difference of two counts, with nothing of its start in it.
 *
 * What is needed of qemu-plugin.h stands here, since Debian has no package of it. All of it is as old as the interface's
 * version 1 and has stayed; VERSION is the one that the qemu at hand asks for. */
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
typedef struct qemu_info_t qemu_info_t;
typedef void (*on_block)(qemu_plugin_id_t id, struct qemu_plugin_tb *block);
typedef void (*on_run)(unsigned int cpu, void *data);
typedef void (*on_call)(qemu_plugin_id_t id, unsigned int cpu, int64_t number, uint64_t a1, uint64_t a2, uint64_t a3,
                        uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8);
enum { REGISTERS_UNTOUCHED = 0 };
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, on_block call);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *block, on_run call, int registers, void *data);
void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t id, on_call call);

__attribute__((visibility("default"))) int qemu_plugin_version = VERSION;

static atomic_uint_fast64_t count;
static int64_t read_number = -1;

/* `data` is how many instructions the block has. */
static void block_runs(unsigned int cpu, void *data) {
  (void)cpu;
  atomic_fetch_add_explicit(&count, (uintptr_t)data, memory_order_relaxed);
}

static void block_is_translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
  (void)id;
  void *instructions = (void *)(uintptr_t)qemu_plugin_tb_n_insns(block);
  qemu_plugin_register_vcpu_tb_exec_cb(block, block_runs, REGISTERS_UNTOUCHED, instructions);
}

static void system_is_called(qemu_plugin_id_t id, unsigned int cpu, int64_t number, uint64_t a1, uint64_t a2, uint64_t a3,
                             uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8) {
  (void)id, (void)cpu, (void)a2, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
  if (number == read_number && a1 == 0)
    fprintf(stderr, "count %" PRIuFAST64 "\n", atomic_load_explicit(&count, memory_order_relaxed));
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc,
                                                               char **argv) {
  (void)info;
  for (int i = 0; i < argc; i++)
    if (strncmp(argv[i], "read=", 5) == 0) read_number = atoll(argv[i] + 5);
  if (read_number < 0) return -1;
  qemu_plugin_register_vcpu_tb_trans_cb(id, block_is_translated);
  qemu_plugin_register_vcpu_syscall_cb(id, system_is_called);
  return 0;
}
