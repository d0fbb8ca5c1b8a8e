// SPDX-License-Identifier: MIT
// Orders of domains: see curriculum.h. Everything that decides lies in `struct curriculum`, which
// is what a checkpoint has of it.
#include "src/curriculum.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "runtime/os.h"

struct place {
    struct curriculum_domain about;
    struct dopamine_history  history;
    uint64_t steps;      // over all visits
    uint32_t visit;      // under way, from 1; 0: none
    uint32_t in_epoch;   // steps of this epoch that were handed out
    double   sum;        // of their losses that were observed
    uint64_t targets;
    bool     done;       // in this round
};

struct curriculum {
    struct curriculum_params params;
    struct arena            *arena;
    struct place            *place;   // [domains]
    uint32_t                *turn;    // [domains] of this round
    uint32_t                 round;
    uint32_t                 current; // the domain of the last step; params.domains: none yet
    bool                     waits;
    struct curriculum_visit *visit;
    uint32_t                 visits, capacity;
};

static const char *const order_names[] = {
    [CONFIG_NO_CURRICULUM] = "none", [CONFIG_FIXED_ORDER] = "fixed",
    [CONFIG_RANDOM_ORDER] = "random", [CONFIG_INTERLEAVED] = "interleaved",
    [CONFIG_DOPAMINE] = "dopamine"};

static bool is_open(const struct place *place)
{
    return !place->about.held_out && place->about.epoch_steps > 0;
}

// ---- rounds

// A seeded permutation (Fisher and Yates) where the order is random; else as the data has them.
static void deal_turns(struct curriculum *c)
{
    const uint32_t count = c->params.domains;
    const uint64_t stream = hash_string("curriculum round");
    for (uint32_t i = 0; i < count; i++) c->turn[i] = i;
    if (c->params.order != CONFIG_RANDOM_ORDER) return;
    for (uint32_t i = count; i > 1; i--) {
        const uint64_t index = (uint64_t)c->round * count + i;
        const uint32_t at = (uint32_t)rng_below(c->params.seed, stream, index, i);
        const uint32_t other = c->turn[at];
        c->turn[at] = c->turn[i - 1];
        c->turn[i - 1] = other;
    }
}

static void begin_round(struct curriculum *c)
{
    for (uint32_t d = 0; d < c->params.domains; d++) c->place[d].done = !is_open(&c->place[d]);
    deal_turns(c);
}

// The first in turn behind `after` (a domain, or none) that is not done, wrapping round.
static uint32_t next_in_turn(const struct curriculum *c, uint32_t after)
{
    const uint32_t count = c->params.domains;
    uint32_t from = 0;
    for (uint32_t i = 0; i < count; i++)
        if (c->turn[i] == after) from = i + 1;
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t domain = c->turn[(from + i) % count];
        if (!c->place[domain].done) return domain;
    }
    return count;
}

static uint32_t choose_in_turn(struct curriculum *c, uint32_t after)
{
    uint32_t domain = next_in_turn(c, after);
    if (domain < c->params.domains) return domain;
    c->round++;
    begin_round(c);
    return next_in_turn(c, c->params.domains);
}

struct dopamine_terms curriculum_terms(const struct curriculum *c, uint32_t domain)
{
    const struct place *place = &c->place[domain];
    return dopamine_terms(&c->params.weights, &place->history, place->about.bonus);
}

static uint32_t draw(const struct curriculum *c)
{
    double *reward = os_alloc(c->params.domains * sizeof *reward);
    uint32_t *domain = os_alloc(c->params.domains * sizeof *domain), count = 0;
    for (uint32_t d = 0; d < c->params.domains; d++) {
        if (!is_open(&c->place[d])) continue;
        domain[count] = d;
        reward[count++] = curriculum_terms(c, d).reward;
    }
    const double uniform = rng_uniform(c->params.seed, hash_string("dopamine"), c->visits);
    const uint32_t drawn = domain[dopamine_draw(reward, count, c->params.weights.power, uniform)];
    free(reward);
    free(domain);
    return drawn;
}

// ---- steps

static bool has_visit(const struct curriculum *c)
{
    return c->current < c->params.domains && c->place[c->current].visit;
}

static uint32_t choose(struct curriculum *c)
{
    if (c->params.order == CONFIG_INTERLEAVED) return choose_in_turn(c, c->current);
    if (has_visit(c)) return c->current;
    return c->params.order == CONFIG_DOPAMINE ? draw(c) : choose_in_turn(c, c->current);
}

static void begin_visit(struct curriculum *c, uint32_t domain)
{
    if (c->visits == c->capacity) {
        const uint32_t capacity = c->capacity ? 2 * c->capacity : 16;
        c->visit = os_grow(c->visit, c->capacity * sizeof *c->visit, capacity * sizeof *c->visit);
        c->capacity = capacity;
    }
    c->visit[c->visits++] = (struct curriculum_visit){
        .domain = domain, .first = NAN, .last = NAN, .terms = curriculum_terms(c, domain)};
    c->place[domain].visit = c->visits;
}

struct curriculum_step curriculum_next(struct curriculum *c)
{
    const uint32_t domain = choose(c);
    struct place *place = &c->place[domain];
    const bool begins = !place->visit;
    if (begins) begin_visit(c, domain);
    struct curriculum_visit *visit = &c->visit[place->visit - 1];
    c->current = domain;
    visit->steps++;
    place->in_epoch++;
    c->waits = place->in_epoch == place->about.epoch_steps;
    return (struct curriculum_step){.domain = domain, .visit = place->visit,
                                    .epoch = visit->epochs + 1, .index = place->steps++,
                                    .begins = begins, .ends = c->waits, .terms = visit->terms};
}

bool curriculum_waits(const struct curriculum *c) { return c->waits; }

static void end_visit(struct curriculum *c, struct place *place, const struct curriculum_visit *v)
{
    place->history.visits++;
    place->history.before = place->history.last;
    place->history.last = v->last;
    place->visit = 0;
    place->done = c->params.order != CONFIG_DOPAMINE;
}

bool curriculum_observe(struct curriculum *c, const struct curriculum_step *step, double loss,
                        uint64_t targets)
{
    struct place *place = &c->place[step->domain];
    struct curriculum_visit *visit = &c->visit[step->visit - 1];
    if (isfinite(loss)) {
        place->sum += loss * (double)targets;
        place->targets += targets;
    }
    if (!step->ends) return false;
    const double mean = place->targets ? place->sum / (double)place->targets : NAN;
    if (visit->epochs == 0) visit->first = mean;
    visit->last = mean;
    visit->epochs++;
    place->in_epoch = 0;
    place->sum = 0;
    place->targets = 0;
    c->waits = false;
    if (visit->epochs < c->params.epochs && !(mean < c->params.stop_loss)) return false;
    end_visit(c, place, visit);
    return true;
}

uint32_t curriculum_visits(const struct curriculum *c, const struct curriculum_visit **visit)
{
    *visit = c->visit;
    return c->visits;
}

uint64_t curriculum_round_steps(const struct curriculum *c)
{
    uint64_t steps = 0;
    for (uint32_t d = 0; d < c->params.domains; d++)
        if (is_open(&c->place[d])) steps += c->place[d].about.epoch_steps;
    return steps * c->params.epochs;
}

struct curriculum *curriculum_create(const struct curriculum_params *params)
{
    struct arena *arena = arena_create("curriculum");
    struct curriculum *c = arena_alloc(arena, sizeof *c);
    *c = (struct curriculum){.params = *params, .arena = arena, .current = params->domains};
    c->place = arena_array(arena, params->domains, sizeof *c->place);
    c->turn = arena_array(arena, params->domains, sizeof *c->turn);
    for (uint32_t d = 0; d < params->domains; d++)
        c->place[d] = (struct place){.about = params->domain[d],
                                     .history = {.last = NAN, .before = NAN}};
    begin_round(c);
    if (next_in_turn(c, params->domains) < params->domains) return c;
    log_error("curriculum: none of the data's %u domains has text to train on that is not held "
              "out", params->domains);
    curriculum_destroy(&c);
    return NULL;
}

void curriculum_destroy(struct curriculum **curriculum)
{
    struct curriculum *c = *curriculum;
    if (!c) return;
    struct arena *arena = c->arena;
    free(c->visit);
    arena_destroy(&arena);
    *curriculum = NULL;
}

// ---- the state

static void put_number(struct bytes *out, const char *key, double value)
{
    if (isfinite(value)) bytes_printf(out, ", \"%s\": %.17g", key, value); // comes back as it was
    else bytes_printf(out, ", \"%s\": null", key);
}

static void print_visit(struct bytes *out, const struct curriculum_visit *v)
{
    bytes_printf(out, "{\"domain\": %u, \"epochs\": %u, \"steps\": %u", v->domain, v->epochs,
                 v->steps);
    put_number(out, "first", v->first);
    put_number(out, "last", v->last);
    put_number(out, "reward", v->terms.reward);
    put_number(out, "novelty", v->terms.novelty);
    put_number(out, "weakness", v->terms.weakness);
    put_number(out, "improvement", v->terms.improvement);
    put_number(out, "bonus", v->terms.bonus);
    bytes_printf(out, "}");
}

static void print_place(struct bytes *out, const struct place *p)
{
    bytes_printf(out, "{\"name\": ");
    bytes_json(out, cJSON_CreateString(p->about.name));
    bytes_printf(out, ", \"steps\": %llu, \"visit\": %u, \"in_epoch\": %u",
                 (unsigned long long)p->steps, p->visit, p->in_epoch);
    put_number(out, "sum", p->sum);
    bytes_printf(out, ", \"targets\": %llu, \"done\": %s, \"visits\": %u",
                 (unsigned long long)p->targets, p->done ? "true" : "false", p->history.visits);
    put_number(out, "last", p->history.last);
    put_number(out, "before", p->history.before);
    bytes_printf(out, "}");
}

char *curriculum_print(const struct curriculum *c)
{
    struct bytes out = {0};
    bytes_printf(&out, "{\"order\": \"%s\", \"round\": %u, \"current\": %u, \"domains\": [",
                 order_names[c->params.order], c->round, c->current);
    for (uint32_t d = 0; d < c->params.domains; d++) {
        if (d) bytes_printf(&out, ", ");
        print_place(&out, &c->place[d]);
    }
    bytes_printf(&out, "], \"visits\": [");
    for (uint32_t i = 0; i < c->visits; i++) {
        if (i) bytes_printf(&out, ", ");
        print_visit(&out, &c->visit[i]);
    }
    bytes_printf(&out, "]}");
    return (char *)out.data;
}

static double number(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsNumber(item) ? item->valuedouble : NAN;
}

// A count from 0 to `most`; anything else spoils *good.
static uint64_t count_of(const cJSON *object, const char *key, double most, bool *good)
{
    const double value = number(object, key);
    if (value >= 0 && value <= most && value == floor(value)) return (uint64_t)value;
    *good = false;
    return 0;
}

static bool parse_place(const struct curriculum *c, struct place *p, const cJSON *json,
                        uint32_t visits)
{
    bool good = true;
    p->steps = count_of(json, "steps", 1e15, &good);
    p->visit = (uint32_t)count_of(json, "visit", visits, &good);
    p->in_epoch = (uint32_t)count_of(json, "in_epoch", max_u32(p->about.epoch_steps, 1) - 1, &good);
    p->sum = number(json, "sum");
    p->targets = count_of(json, "targets", 1e15, &good);
    p->done = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(json, "done")) || !is_open(p);
    p->history.visits = (uint32_t)count_of(json, "visits", visits, &good);
    p->history.last = number(json, "last");
    p->history.before = number(json, "before");
    if (p->visit && (c->visit[p->visit - 1].domain != (uint32_t)(p - c->place) || !is_open(p)))
        return false;
    return good && isfinite(p->sum) && (p->visit || p->in_epoch == 0);
}

static bool parse_visit(struct curriculum_visit *v, const cJSON *json, uint32_t domains)
{
    bool good = true;
    *v = (struct curriculum_visit){
        .domain = (uint32_t)count_of(json, "domain", domains - 1, &good),
        .epochs = (uint32_t)count_of(json, "epochs", 1e9, &good),
        .steps = (uint32_t)count_of(json, "steps", 1e9, &good),
        .first = number(json, "first"), .last = number(json, "last"),
        .terms = {.novelty = number(json, "novelty"), .weakness = number(json, "weakness"),
                  .improvement = number(json, "improvement"), .bonus = number(json, "bonus"),
                  .reward = number(json, "reward")}};
    return good;
}

// What is wrong with it, NULL: nothing.
static const char *is_of_another(const struct curriculum *c, const cJSON *json,
                                 const cJSON *domains)
{
    const char *order = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "order"));
    if (!order || strcmp(order, order_names[c->params.order]) != 0) return "of another order";
    if (cJSON_GetArraySize(domains) != (int)c->params.domains) return "of other domains";
    for (uint32_t d = 0; d < c->params.domains; d++) {
        const cJSON *own = cJSON_GetArrayItem(domains, (int)d);
        const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(own, "name"));
        if (!name || strcmp(name, c->place[d].about.name) != 0) return "of other domains";
    }
    return NULL;
}

static bool parse_lists(struct curriculum *c, const cJSON *domains, const cJSON *visits)
{
    const uint32_t count = (uint32_t)cJSON_GetArraySize(visits);
    free(c->visit);
    c->visit = os_alloc(max_u32(count, 1) * sizeof *c->visit);
    c->visits = 0;
    c->capacity = max_u32(count, 1);
    for (const cJSON *item = visits ? visits->child : NULL; item; item = item->next)
        if (!parse_visit(&c->visit[c->visits++], item, c->params.domains)) return false;
    const cJSON *item = domains->child;
    for (uint32_t d = 0; d < c->params.domains; d++, item = item->next)
        if (!parse_place(c, &c->place[d], item, count)) return false;
    return true;
}

static bool parse_turn(struct curriculum *c, const cJSON *json)
{
    bool good = true;
    c->round = (uint32_t)count_of(json, "round", 1e9, &good);
    c->current = (uint32_t)count_of(json, "current", c->params.domains, &good);
    c->waits = false;
    return good;
}

bool curriculum_parse(struct curriculum *c, const char *where, const cJSON *json)
{
    const cJSON *domains = cJSON_GetObjectItemCaseSensitive(json, "domains"),
                *visits = cJSON_GetObjectItemCaseSensitive(json, "visits");
    const char *problem = is_of_another(c, json, domains);
    if (!problem && !(cJSON_IsArray(visits) && parse_lists(c, domains, visits) &&
                      parse_turn(c, json)))
        problem = "damaged";
    if (problem) {
        log_error("%s: the state of the curriculum is %s; wanted that of order %s with the "
                  "domains of this run's data", where, problem, order_names[c->params.order]);
        return false;
    }
    deal_turns(c);
    return true;
}
