// SPDX-License-Identifier: MIT
// A run's curriculum: views of the data by domain, whose turn it is, evaluations of domains. See
// train_curriculum.h.
#include "src/train_curriculum.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "runtime/os.h"
#include "src/corpus_mix.h"
#include "src/fct_source.h"
#include "src/train_run.h"

struct train_curriculum {
    struct curriculum        *state;
    struct data             **data;  // [domains] views
    struct curriculum_domain *about; // [domains]
    uint32_t                  domains;
    uint32_t                  over;  // 1 + the domain whose visit has just ended; 0: none
};

// ---- opening

static const struct config_domain *said_of(const struct config *c, const char *name)
{
    for (uint32_t i = 0; i < c->domain_count; i++)
        if (strcmp(c->domain[i].name, name) == 0) return &c->domain[i];
    return NULL;
}

// What the config says of a domain that is not there is a slip of the pen.
static bool check_names(const struct config *c, const struct data *data)
{
    for (uint32_t i = 0; i < c->domain_count; i++) {
        uint32_t d = 0;
        while (d < data_domain_count(data) &&
               strcmp(data_domain_name(data, d), c->domain[i].name) != 0)
            d++;
        if (d < data_domain_count(data)) continue;
        log_error("curriculum_domains: \"%s\" is no domain of the data, which are: %s",
                  c->domain[i].name, data_summary(data));
        return false;
    }
    return true;
}

static bool open_domains(struct train_curriculum *t, const struct config *c,
                         const struct data *data)
{
    t->domains = data_domain_count(data);
    t->data = os_alloc(t->domains * sizeof *t->data);
    t->about = os_alloc(t->domains * sizeof *t->about);
    for (uint32_t d = 0; d < t->domains; d++) {
        const char *name = data_domain_name(data, d);
        const struct config_domain *said = said_of(c, name);
        t->data[d] = data_of_domain(data, d);
        const uint64_t windows = data_windows(t->data[d], DATA_TRAIN), step = train_step_windows(c);
        t->about[d] = (struct curriculum_domain){
            .name = name, .epoch_steps = (uint32_t)((windows + step - 1) / step),
            .held_out = said && said->held_out, .bonus = said ? said->bonus : 0};
    }
    if (t->domains > 1) return check_names(c, data);
    log_error("curriculum: the data has one domain (%s); wanted at least two, or curriculum none",
              data_summary(data));
    return false;
}

static void tell(const struct train_curriculum *t, const struct config *c)
{
    static const char *const names[] = {"none", "fixed", "random", "interleaved", "dopamine"};
    uint32_t held_out = 0;
    for (uint32_t d = 0; d < t->domains; d++) held_out += t->about[d].held_out;
    char out[40] = "";
    if (held_out) snprintf(out, sizeof out, " (%u held out)", held_out);
    log_info("curriculum: %u domains%s, %s order; %u epochs of each are %llu steps", t->domains,
             out, names[c->curriculum], c->curriculum_epochs,
             (unsigned long long)curriculum_round_steps(t->state));
}

bool train_curriculum_open(struct run_state *r)
{
    const struct config *c = r->config;
    if (c->curriculum == CONFIG_NO_CURRICULUM) return true;
    struct train_curriculum *t = r->curriculum = os_alloc(sizeof *t);
    if (!open_domains(t, c, r->data)) return false;
    t->state = curriculum_create(&(struct curriculum_params){
        .order = c->curriculum, .epochs = c->curriculum_epochs,
        .stop_loss = c->curriculum_stop_loss, .seed = c->seed, .domain = t->about,
        .domains = t->domains,
        .weights = {.novelty = c->dopamine_novelty, .weakness = c->dopamine_weakness,
                    .improvement = c->dopamine_improvement, .bonus = c->dopamine_bonus,
                    .scale = log(fmax(c->vocab_size, 2)), .power = c->dopamine_power}});
    if (t->state) tell(t, c);
    return t->state != NULL;
}

void train_curriculum_close(struct train_curriculum **curriculum)
{
    struct train_curriculum *t = *curriculum;
    if (!t) return;
    curriculum_destroy(&t->state);
    for (uint32_t d = 0; t->data && d < t->domains; d++) data_close(&t->data[d]);
    free(t->data);
    free(t->about);
    free(t);
    *curriculum = NULL;
}

struct curriculum *train_curriculum_state(struct train_curriculum *t)
{
    return t ? t->state : NULL;
}

// ---- evaluations

// False only where the run cannot go on: an evaluation that Ctrl-C ended leaves its line out.
static bool evaluate_domain(struct run_state *r, const struct data *data, uint32_t domain,
                            const char *at, uint32_t step, uint32_t most)
{
    struct evaluation e;
    if (data_windows(data, DATA_HELD_OUT) == 0 || os_interrupted()) return true;
    if (!evaluator_run(r->evaluator, data, DATA_HELD_OUT, most, &e))
        return os_interrupted() && !gpu_lost(r->gpu);
    metrics_write_domain(r->metrics, &(struct metrics_domain){
        .step = step, .domain = data_domain_name(data, domain), .at = at, .loss = e.loss,
        .bits_per_byte = e.bits_per_byte, .targets = e.tokens});
    r->last_collect = os_seconds();
    return true;
}

static bool evaluate_unseen(struct run_state *r, uint32_t step)
{
    const struct train_curriculum *t = r->curriculum;
    for (uint32_t d = 0; d < t->domains; d++)
        if (t->about[d].held_out && !evaluate_domain(r, t->data[d], d, "held_out", step,
                                                     r->config->eval_batches))
            return false;
    return true;
}

static bool evaluate_exchanged(struct run_state *r, enum data_exchange exchange, const char *at)
{
    struct data_params params = train_data_params(r);
    params.fct_exchange = exchange;
    struct data *data = data_open(&params);
    bool ok = data != NULL;
    for (uint32_t d = 0; ok && d < r->curriculum->domains; d++) {
        struct data *view = data_of_domain(data, d);
        ok = evaluate_domain(r, view, d, at, r->step, r->config->final_eval_batches);
        data_close(&view);
    }
    data_close(&data);
    return ok;
}

bool train_parts_final(struct run_state *r)
{
    const struct train_curriculum *t = r->curriculum;
    bool patterns = false;
    if (!t) return true;
    for (int i = 0; i < r->params->data_count; i++)
        patterns |= fct_is(corpus_path(r->params->data[i]));
    for (uint32_t d = 0; d < t->domains; d++)
        if (!evaluate_domain(r, t->data[d], d, "final", r->step, r->config->final_eval_batches))
            return false;
    return !patterns || (evaluate_exchanged(r, DATA_EXCHANGE_IN_DOMAIN, "exchanged") &&
                         evaluate_exchanged(r, DATA_EXCHANGE_ALL, "exchanged_all"));
}

// ---- steps

bool train_part_next(struct run_state *r)
{
    struct train_curriculum *t = r->curriculum;
    const uint32_t step = r->step + 1;
    struct train_part *part = &r->part[step % COUNT_OF(r->part)];
    *part = (struct train_part){.data = r->data, .first = r->windows};
    if (!t) return true;
    part->step = curriculum_next(t->state);
    const uint32_t d = part->step.domain;
    part->data = t->data[d];
    part->first = part->step.index * train_step_windows(r->config);
    part->domain = t->about[d].name;
    if (!part->step.begins) return true;
    return train_drain(r) &&
           evaluate_domain(r, part->data, d, "start", step, r->config->eval_batches) &&
           (part->step.visit > 1 || evaluate_unseen(r, step));
}

void train_part_observe(struct run_state *r, uint32_t step, double loss, uint64_t targets)
{
    struct train_curriculum *t = r->curriculum;
    if (!t) return;
    const struct curriculum_step *own = &r->part[step % COUNT_OF(r->part)].step;
    if (curriculum_observe(t->state, own, loss, targets)) t->over = 1 + own->domain;
}

bool train_part_end(struct run_state *r)
{
    struct train_curriculum *t = r->curriculum;
    if (!t || !curriculum_waits(t->state)) return true;
    if (!train_drain(r)) return false;
    if (!t->over) return true;
    const uint32_t domain = t->over - 1;
    t->over = 0;
    return evaluate_domain(r, t->data[domain], domain, "end", r->step, r->config->eval_batches) &&
           evaluate_unseen(r, r->step);
}
