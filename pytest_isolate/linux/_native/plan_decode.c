/* Decodes a Plan. Nothing in it is trusted: its bytes come through a memfd, and a damaged one is no Plan. */
#include "plan.h"

#include <stdlib.h>
#include <string.h>

struct cursor {
  const char *at, *end;
  int bad;
};

static void take(struct cursor *in, void *into, size_t size) {
  if ((size_t)(in->end - in->at) < size) {
    in->bad = 1;
    memset(into, 0, size);
    return;
  }
  memcpy(into, in->at, size);
  in->at += size;
}

static uint32_t take_u32(struct cursor *in) {
  uint32_t value;
  take(in, &value, sizeof value);
  return value;
}

static uint64_t take_u64(struct cursor *in) {
  uint64_t value;
  take(in, &value, sizeof value);
  return value;
}

static const char *take_text(struct cursor *in) {
  uint32_t length = take_u32(in);
  if (in->bad || (size_t)(in->end - in->at) < (size_t)length + 1 || in->at[length]) {
    in->bad = 1;
    return "";
  }
  const char *text = in->at;
  in->at += (size_t)length + 1;
  return text;
}

/* A count of records of at least `least` bytes each cannot exceed what is left: a damaged count must not become a
 * huge calloc. */
static uint32_t take_count(struct cursor *in, size_t least) {
  uint32_t count = take_u32(in);
  if (count > (size_t)(in->end - in->at) / least) {
    in->bad = 1;
    return 0;
  }
  return count;
}

/* A program and its arguments, as execve(2) takes them. */
static const char **take_words(struct cursor *in) {
  uint32_t count = take_count(in, 5);
  const char **words = calloc((size_t)count + 1, sizeof *words);
  for (uint32_t i = 0; words && i < count; i++) words[i] = take_text(in);
  if (!words || !count) in->bad = 1;
  return words;
}

static void take_cgroup(struct cursor *in, struct cgroup_dir *dir) {
  dir->parent = take_text(in);
  dir->attach = take_text(in);
  dir->shared = take_u32(in);
  dir->file_count = take_count(in, 10);
  dir->files = calloc((size_t)dir->file_count + 1, sizeof *dir->files);
  if (!dir->files) in->bad = 1;
  for (uint32_t i = 0; dir->files && i < dir->file_count; i++) {
    dir->files[i].name = take_text(in);
    dir->files[i].value = take_text(in);
  }
}

static void take_op(struct cursor *in, struct op *op) {
  op->step = take_u32(in);
  op->number = take_u64(in);
  op->source = take_text(in);
  op->target = take_text(in);
  op->type = take_text(in);
  op->data = take_text(in);
}

struct plan *plan_decode(const char *bytes, size_t size) {
  struct cursor in = {bytes, bytes + size, 0};
  struct plan *plan = calloc(1, sizeof *plan);
  if (!plan) return NULL;
  plan->namespaces = take_u64(&in);
  plan->uid_map = take_text(&in);
  plan->gid_map = take_text(&in);
  plan->scratch = take_text(&in);
  plan->cgroup_count = take_count(&in, 18);
  plan->cgroups = calloc((size_t)plan->cgroup_count + 1, sizeof *plan->cgroups);
  for (uint32_t i = 0; plan->cgroups && i < plan->cgroup_count; i++) take_cgroup(&in, &plan->cgroups[i]);
  plan->op_count = take_count(&in, 32);
  plan->ops = calloc((size_t)plan->op_count + 1, sizeof *plan->ops);
  for (uint32_t i = 0; plan->ops && i < plan->op_count; i++) take_op(&in, &plan->ops[i]);
  plan->uplink_count = take_count(&in, 4);
  plan->uplink = calloc((size_t)plan->uplink_count + 1, sizeof *plan->uplink);
  for (uint32_t i = 0; plan->uplink && i < plan->uplink_count; i++) plan->uplink[i] = take_words(&in);
  if (in.bad || !plan->cgroups || !plan->ops || !plan->uplink) {
    plan_free(plan);
    return NULL;
  }
  return plan;
}

void plan_free(struct plan *plan) {
  for (uint32_t i = 0; plan->cgroups && i < plan->cgroup_count; i++) free(plan->cgroups[i].files);
  for (uint32_t i = 0; plan->uplink && i < plan->uplink_count; i++) free(plan->uplink[i]);
  free(plan->cgroups);
  free(plan->ops);
  free(plan->uplink);
  free(plan);
}
