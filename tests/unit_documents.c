// SPDX-License-Identifier: MIT
// document_boundaries: documents packed into sequences have the losses and the gradients that each
// has alone, through attention, smear_gate and the hashes of n-grams; without the key they have
// not.
#include "tests/unit_world.h"

#include "src/evaluator.h"
#include "src/ngram.h"

#define CONFIG                                                                               \
    "\"model_type\": \"vkmoe\", \"hidden_size\": 12, \"intermediate_size\": 14, "            \
    "\"moe_intermediate_size\": 10, \"num_hidden_layers\": 2, \"num_attention_heads\": 2, "  \
    "\"num_key_value_heads\": 1, \"head_dim\": 6, \"max_position_embeddings\": 64, "         \
    "\"num_experts\": 4, \"num_experts_per_tok\": 2, \"mlp_only_layers\": [1], "             \
    "\"initializer_range\": 0.3, \"router_aux_loss_coef\": 0, \"router_z_loss_coef\": 0, "   \
    "\"smear_gate\": true, \"bigram_hash_size\": 17, \"trigram_hash_size\": 23, "            \
    "\"hash_dim\": 5, \"max_grad_norm\": 0, \"steps\": 9, \"seed\": 5"

enum { SEQ = 24, ROWS = 3, PACKED = ROWS * SEQ, VOCAB = 31 };

// whole sequences, documents of one token, at the edges too
static const uint32_t lengths[] = {1, 7, 4, 12, SEQ, 11, 1, 1, 11};
enum { DOCUMENTS = COUNT_OF(lengths), ALONE = DOCUMENTS * SEQ };

// Opened once for all tests: their kernels are compiled once.
struct device {
    struct gpu     *gpu;
    struct kernels *kernels;
};

static struct device open_device(const char *name)
{
    struct device d = {.gpu = gpu_create(&(struct gpu_params){.device = name, .cache_dir = ""})};
    if (d.gpu) d.kernels = kernels_create(d.gpu);
    return d;
}

static void close_device(struct device *d)
{
    kernels_destroy(&d->kernels);
    gpu_destroy(&d->gpu);
}

static struct world enter(const struct device *device, const char *keys)
{
    char json[1600];
    snprintf(json, sizeof json, "{" CONFIG ", %s}", keys);
    return enter_world(device->gpu, device->kernels, make_model_of(json));
}

struct tokens { uint32_t ids[ALONE], targets[ALONE], begins[ALONE]; };

static void put(struct tokens *to, uint32_t at, uint32_t token, uint32_t begin)
{
    to->ids[at] = (uint32_t)rng_below(11, 0, token, VOCAB);
    to->targets[at] = (uint32_t)rng_below(11, 1, token, VOCAB);
    to->begins[at] = begin;
}

// The documents side by side, and each in a sequence of its own: padding is not scored.
static void make_tokens(struct tokens *packed, struct tokens *alone)
{
    memset(alone->ids, 0, sizeof alone->ids);
    memset(alone->targets, 0xff, sizeof alone->targets);
    memset(alone->begins, 0, sizeof alone->begins);
    for (uint32_t d = 0, token = 0; d < DOCUMENTS; d++)
        for (uint32_t i = 0, begin = token % SEQ; i < lengths[d]; i++, token++) {
            put(packed, token, token, begin);
            put(alone, d * SEQ + i, token, 0);
        }
}

static struct batch batch_of(const struct tokens *t)
{
    return (struct batch){t->ids, t->targets, t->begins};
}

static double loss_of(struct evaluator *e, const struct batch *batch)
{
    double sum;
    uint64_t targets;
    assert_true(evaluator_batch(e, batch, &sum, &targets));
    return sum;
}

// The loss of document `d` among the packed ones.
static double loss_within(struct evaluator *e, const struct tokens *packed, uint32_t d)
{
    static uint32_t targets[PACKED];
    uint32_t first = 0;
    for (uint32_t i = 0; i < d; i++) first += lengths[i];
    memset(targets, 0xff, sizeof targets);
    memcpy(targets + first, packed->targets + first, lengths[d] * sizeof *targets);
    return loss_of(e, &(struct batch){packed->ids, targets, packed->begins});
}

#define KEYS(batch, on) \
    "\"vocab_size\": 31, \"seq_len\": 24, \"batch_size\": " #batch ", " \
    "\"document_boundaries\": " #on

static struct evaluator *evaluator_of(struct world *s, uint32_t batch)
{
    struct evaluator *e =
        evaluator_create(s->gpu, s->kernels, trainer_params(s->trainer), batch, SEQ);
    assert_non_null(e);
    return e;
}

// f32 sums in another order: RoPE turns by other angles, so scores differ in their last bits.
#define LOSS_TOLERANCE 2e-5

static void losses_are_those_alone(void **state)
{
    static struct tokens packed, alone;
    make_tokens(&packed, &alone);
    struct world on = enter(*state, KEYS(3, true)), off = enter(*state, KEYS(3, false));
    struct evaluator *within = evaluator_of(&on, ROWS), *across = evaluator_of(&off, ROWS),
                     *one = evaluator_of(&off, 1);
    double farthest = 0;
    for (uint32_t d = 0; d < DOCUMENTS; d++) {
        const uint32_t *const ids = alone.ids + d * SEQ, *const targets = alone.targets + d * SEQ;
        const double wanted = loss_of(one, &(struct batch){ids, targets, NULL});
        const double mixed = loss_within(across, &packed, d);
        unit_assert_near(loss_within(within, &packed, d), wanted, LOSS_TOLERANCE * lengths[d]);
        farthest = fmax(farthest, fabs(mixed - wanted) / lengths[d]);
        // the first of a sequence sees none before it in any case
        if (d == 0 || d == 4 || d == 5)
            unit_assert_near(mixed, wanted, LOSS_TOLERANCE * lengths[d]);
        else assert_true(fabs(mixed - wanted) > 1e-3 * lengths[d]);
    }
    assert_true(farthest > 0.05);
    evaluator_destroy(&within);
    evaluator_destroy(&across);
    evaluator_destroy(&one);
    leave_world(&on);
    leave_world(&off);
}

// No bit of another document gets in: the losses of one stay when all others change.
static void neighbours_change_nothing(void **state)
{
    static struct tokens packed, alone;
    make_tokens(&packed, &alone);
    struct world s = enter(*state, KEYS(3, true));
    struct evaluator *e = evaluator_of(&s, ROWS);
    for (uint32_t d = 1, first = lengths[0]; d < DOCUMENTS; first += lengths[d++]) {
        struct tokens other = packed;
        for (uint32_t t = 0; t < PACKED; t++)
            if (t < first || t >= first + lengths[d]) other.ids[t] = (packed.ids[t] + 7) % VOCAB;
        // not to the bit: experts' rows go through other tiles
        unit_assert_near(loss_within(e, &other, d), loss_within(e, &packed, d),
                         1e-6 * lengths[d]);
    }
    evaluator_destroy(&e);
    leave_world(&s);
}

static double distance(const float *a, const float *b, uint64_t count)
{
    double error = 0, square = 0;
    for (uint64_t i = 0; i < count; i++) {
        error += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        square += (double)b[i] * (double)b[i];
    }
    return sqrt(error / fmax(square, 1e-30));
}

// The largest distance of a tensor's gradients, after one step on each side.
static double gradients_apart(struct world *a, const struct batch *of_a, struct world *b,
                              const struct batch *of_b)
{
    struct trainer_result result[2];
    double most = 0;
    assert_true(trainer_submit(a->trainer, 1, 0, of_a));
    assert_true(trainer_collect(a->trainer, &result[0]));
    assert_true(trainer_submit(b->trainer, 1, 0, of_b));
    assert_true(trainer_collect(b->trainer, &result[1]));
    for (uint32_t t = 0; t < a->model->tensor_count; t++) {
        const struct model_tensor *const tensor = &a->model->tensor[t];
        float *x = values_of(a, PARAMS_GRAD, tensor), *y = values_of(b, PARAMS_GRAD, tensor);
        most = fmax(most, distance(x, y, tensor->count));
        free(x);
        free(y);
    }
    return most;
}

static void gradients_are_those_alone(void **state)
{
    static struct tokens packed, alone;
    make_tokens(&packed, &alone);
    struct world on = enter(*state, KEYS(3, true)), one = enter(*state, KEYS(9, false));
    const struct batch packs = batch_of(&packed), ones = batch_of(&alone);
    const double within = gradients_apart(&on, &packs, &one, &ones);
    if (!(within < 1e-4)) fail_msg("gradients are %g apart", within);
    const struct batch unknown = {packed.ids, packed.targets, NULL}; // one document a sequence
    assert_true(gradients_apart(&on, &unknown, &one, &ones) > 0.1);
    leave_world(&on);
    leave_world(&one);
}

// Two micro-batches have begins of their own.
static void micro_batches_have_their_own(void **state)
{
    static struct tokens packed, alone;
    static uint32_t other[ALONE];
    make_tokens(&packed, &alone);
    for (uint32_t i = 0; i < SEQ; i++) other[i] = i < 5 ? 0 : 5;
    struct world two =
        enter(*state, "\"vocab_size\": 31, \"seq_len\": 24, \"batch_size\": 1, "
                          "\"gradient_accumulation_steps\": 2, \"document_boundaries\": true");
    struct world one = enter(*state, KEYS(2, true));
    const struct batch parts[] = {{packed.ids, packed.targets, packed.begins},
                                  {packed.ids + SEQ, packed.targets + SEQ, other}};
    memcpy(packed.begins + SEQ, other, SEQ * sizeof *other);
    const struct batch whole = batch_of(&packed);
    const double apart = gradients_apart(&two, parts, &one, &whole);
    if (!(apart < 1e-4)) fail_msg("gradients are %g apart", apart);
    leave_world(&two);
    leave_world(&one);
}

// ---- the parts

static void hashes_do_not_look_back_further(void **state)
{
    (void)state;
    const struct config config = {.bigram_hash_size = 97, .trigram_hash_size = 89};
    const uint32_t ids[] = {5, 6, 7, 8, 5, 6, 7}, begins[] = {0, 0, 0, 3, 3, 3, 3};
    uint32_t within[7], alone[7];
    for (uint32_t which = 0; which < 2; which++) {
        ngram_rows(&config, which, ids, begins, 7, 7, within);
        ngram_rows(&config, which, ids, NULL, 3, 3, alone);
        ngram_rows(&config, which, ids + 3, NULL, 4, 4, alone + 3);
        assert_memory_equal(within, alone, sizeof alone);
        ngram_rows(&config, which, ids, NULL, 7, 7, alone);
        assert_memory_not_equal(within, alone, sizeof alone);
    }
}

static void off_takes_no_room(void **state)
{
    (void)state;
    struct config on = {.seq_len = SEQ, .document_boundaries = true}, off = {.seq_len = SEQ};
    const struct batch_layout with = batch_layout(&on, PACKED, SEQ),
                              without = batch_layout(&off, PACKED, SEQ);
    assert_int_equal(without.begins, 0);
    assert_true(with.begins > 0 && with.input_bytes > without.input_bytes);
}

// ---- evaluation of a text in windows that cut its documents

static const char text[] =
    "{\"text\": \"abcde\"}\n{\"text\": \"x\"}\n{\"text\": \"hello\"}\n{\"text\": \"to\"}\n"
    "{\"text\": \"vulkan\"}\n{\"text\": \"a b c\"}\n{\"text\": \"moe\"}\n";

enum { WINDOW = 8, STRIDE_SEQ = 16, MOST = 64 };

static struct data *open_text(const struct tokenizer *tokenizer)
{
    const char *const path = unit_write_text("text.jsonl", text);
    return data_open(&(struct data_params){.path = &path, .path_count = 1, .tokenizer = tokenizer,
                                           .vocab_size = 260, .seq_len = WINDOW,
                                           .held_out_fraction = 1});
}

// The sum of the losses of all documents of a split, each alone.
static double losses_alone(struct world *s, const struct data *data)
{
    uint32_t ids[MOST], targets[MOST], begins[MOST], count = 0;
    struct evaluator *e =
        evaluator_create(s->gpu, s->kernels, trainer_params(s->trainer), 1, STRIDE_SEQ);
    const uint32_t windows = (uint32_t)data_windows(data, DATA_HELD_OUT);
    assert_true(windows * WINDOW <= MOST);
    for (uint32_t w = 0; w < windows; w++, count += WINDOW) {
        data_window_at(data, DATA_HELD_OUT, w, ids + count, targets + count, true);
    }
    data_window_begins(data, DATA_HELD_OUT, 0, windows, begins);
    double sum = 0;
    for (uint32_t i = 0, length; i < count; i += length) {
        uint32_t own_ids[STRIDE_SEQ] = {0}, own_targets[STRIDE_SEQ];
        memset(own_targets, 0xff, sizeof own_targets);
        for (length = 0; i + length < count && begins[i + length] == begins[i]; length++) {
            assert_true(length < STRIDE_SEQ);
            own_ids[length] = ids[i + length];
            own_targets[length] = targets[i + length];
        }
        sum += loss_of(e, &(struct batch){own_ids, own_targets, NULL});
    }
    evaluator_destroy(&e);
    return sum;
}

// Rows of two windows: a document that a window's end cuts is seen whole.
static void windows_that_cut_documents(void **state)
{
    struct tokenizer *tokenizer = tokenizer_create_bytes();
    struct data *data = open_text(tokenizer);
    assert_non_null(data);
    struct world s =
        enter(*state, "\"vocab_size\": 260, \"seq_len\": 16, \"document_boundaries\": true");
    struct evaluation result;
    struct evaluator *e =
        evaluator_create(s.gpu, s.kernels, trainer_params(s.trainer), 3, STRIDE_SEQ);
    assert_true(evaluator_run(e, data, DATA_HELD_OUT, 0, &result));
    unit_assert_near(result.loss_sum, losses_alone(&s, data), 1e-5 * result.loss_sum);
    evaluator_destroy(&e);
    leave_world(&s);
    data_close(&data);
    tokenizer_destroy(&tokenizer);
}

int main(void)
{
    struct device ref = open_device("ref"), vulkan = open_device(getenv("VKMOE_DEVICE"));
    if (!ref.kernels || !vulkan.kernels) return 1;
    const struct CMUnitTest tests[] = {
#define BOTH(test)                                                                                \
    {#test " (ref)", test, unit_setup, unit_teardown, &ref},                                      \
    {#test, test, unit_setup, unit_teardown, &vulkan}
        BOTH(losses_are_those_alone),
        BOTH(gradients_are_those_alone),
        BOTH(neighbours_change_nothing),
        BOTH(micro_batches_have_their_own),
        BOTH(windows_that_cut_documents),
#undef BOTH
        cmocka_unit_test(hashes_do_not_look_back_further),
        cmocka_unit_test(off_takes_no_room),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    close_device(&ref);
    close_device(&vulkan);
    return failed;
}
