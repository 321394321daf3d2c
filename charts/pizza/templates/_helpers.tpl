{{/* Labels of everything; of a part where `part` is given: (dict "root" $ "part" "orders"). */}}
{{- define "pizza.labels" -}}
{{ include "pizza.selector" . }}
app.kubernetes.io/part-of: pizza
app.kubernetes.io/version: {{ include "pizza.label" .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ include "pizza.label" (printf "%s-%s" .root.Chart.Name .root.Chart.Version) }}
{{- end }}

{{/* A text as the value of a label or the tag of an image: a version may have build metadata after a "+". */}}
{{- define "pizza.label" -}}
{{ . | replace "+" "_" | trunc 63 | trimSuffix "-" | trimSuffix "_" | trimSuffix "." }}
{{- end }}

{{/* A value as text: Helm reads whole numbers of a file as floats, and would write a million as 1e+06. */}}
{{- define "pizza.text" -}}
{{ if kindIs "float64" . }}{{ if eq . (floor .) }}{{ printf "%.0f" . }}{{ else }}{{ toJson . }}{{ end }}{{ else }}{{ toString . }}{{ end }}
{{- end }}

{{/* Fill in values that are missing after `helm upgrade --reuse-values` from an earlier chart. Begins every template. */}}
{{- define "pizza.filled" -}}
{{- include "pizza.fill" (dict "values" .Values "defaults" (.Files.Get "files/values.yaml" | fromYaml)) -}}
{{- end }}

{{/* Maps whose keys are the user's own are not filled in: a key that is missing there was removed with null. */}}
{{- define "pizza.fill" -}}
{{- range $key, $default := .defaults -}}
{{- $value := get $.values $key -}}
{{- if not (hasKey $.values $key) -}}
{{- $_ := set $.values $key $default -}}
{{- else if and (kindIs "map" $default) (kindIs "map" $value) (not (has $key (list "services" "resources" "sidecarResources"))) -}}
{{- include "pizza.fill" (dict "values" $value "defaults" $default) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "pizza.selector" -}}
{{- if .part -}}
app.kubernetes.io/name: {{ .part }}
{{ end -}}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end }}

{{/* Every service that is switched on, with the defaults filled in: YAML of a map by name. */}}
{{- define "pizza.services" -}}
{{- $all := dict -}}
{{- range $name, $own := .Values.services -}}
{{- $service := mustMergeOverwrite (deepCopy $.Values.defaults) (deepCopy ($own | default dict)) -}}
{{- $_ := set $service "sidecar" (ne (toString $service.sidecar) "false") -}}
{{- if and (eq ($service.database | default "") "sqlite") $.Values.postgres.enabled -}}
{{- $_ := set $service "database" "postgres" -}}
{{- else if eq ($service.database | default "") "sqlite" -}}
{{- if gt (int (($own | default dict).replicas | default 1)) 1 -}}
{{- fail (printf "services.%s: SQLite on a volume has one copy; for %d, set postgres.enabled, or database: external and give %s_DATABASE_URL by environmentFrom" $name (int $own.replicas) (upper $name)) -}}
{{- end -}}
{{- $_ := set $service "replicas" (min 1 (int $service.replicas)) -}}
{{- end -}}
{{- if ne (toString $service.enabled) "false" -}}
{{- $_ := set $all $name $service -}}
{{- end -}}
{{- end -}}
{{ toYaml $all }}
{{- end }}

{{/* How a service scales: its own values over those of all. YAML. */}}
{{- define "pizza.scaling" -}}
{{ merge (deepCopy (.service.autoscaling | default dict)) .root.Values.autoscaling | toYaml }}
{{- end }}

{{/* Not empty if KEDA scales a service. */}}
{{- define "pizza.keda" -}}
{{- range include "pizza.services" . | fromYaml }}
{{- if eq (include "pizza.scaling" (dict "root" $ "service" .) | fromYaml).kind "keda" }}keda{{ end }}
{{- end }}
{{- end }}

{{- define "pizza.image" -}}
{{- $image := .root.Values.image -}}
{{- index $image.overrides .part | default (printf "%s/%s:%s" $image.repository .part ($image.tag | default (include "pizza.label" .root.Chart.AppVersion))) -}}
{{- end }}

{{- define "pizza.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* OpenShift assigns users and groups to each namespace, and refuses pods that name others: (dict "root" $ "user" 10001). */}}
{{- define "pizza.podSecurity" -}}
runAsNonRoot: true
{{- if not (.root.Capabilities.APIVersions.Has "security.openshift.io/v1") }}
runAsUser: {{ .user }}
runAsGroup: {{ .user }}
fsGroup: {{ .user }}
{{- end }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "pizza.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: {{ not .writable }}
capabilities: {drop: [ALL]}
{{- end }}

{{/* Secrets by direction: what a service shows its sidecar must not be what the sidecar shows the service. */}}
{{- define "pizza.apiTokenSecret" -}}
{{ .Values.tokens.apiSecret | default "pizza-api-token" }}
{{- end }}
{{- define "pizza.appTokenSecret" -}}
{{ .Values.tokens.appSecret | default "pizza-app-token" }}
{{- end }}

{{/* What is shipped, and which Secret says where the broker and the store are. */}}
{{- define "pizza.shipsNats" -}}
{{- if and (eq .Values.broker.kind "nats") (not .Values.broker.existingSecret) -}}true{{- end -}}
{{- end }}
{{- define "pizza.shipsRedis" -}}
{{- if or (and (eq .Values.broker.kind "redis") (not .Values.broker.existingSecret)) (and (eq .Values.state.kind "redis") (not .Values.state.existingSecret)) -}}true{{- end -}}
{{- end }}
{{- /* Whether a service, or its sidecar, keeps something in the shipped PostgreSQL: (dict "root" $ "service" …). */ -}}
{{- define "pizza.usesPostgres" -}}
{{- $state := .root.Values.state -}}
{{- $sidecar := and .service.sidecar (eq $state.kind "postgres") (not $state.existingSecret) -}}
{{- $keys := and .service.sidecar (eq .root.Values.personalData.keysSecret "pizza-postgres") -}}
{{- if and .root.Values.postgres.enabled (or $sidecar $keys (eq (.service.database | default "") "postgres")) -}}true{{- end -}}
{{- end }}
{{- /* Which shipped parts a service's sidecar cannot start without, as host:port: (dict "root" $ "service" …). */ -}}
{{- define "pizza.needs" -}}
{{- $places := list -}}
{{- if include "pizza.shipsNats" .root }}{{ $places = append $places "nats:4222" }}{{ end -}}
{{- if include "pizza.shipsRedis" .root }}{{ $places = append $places "redis:6379" }}{{ end -}}
{{- if include "pizza.usesPostgres" . }}{{ $places = append $places "postgres:5432" }}{{ end -}}
{{ toJson $places }}
{{- end }}
{{- define "pizza.brokerSecret" -}}
{{ .Values.broker.existingSecret | default (printf "pizza-%s" .Values.broker.kind) }}
{{- end }}
{{- define "pizza.stateSecret" -}}
{{ .Values.state.existingSecret | default (printf "pizza-%s" .Values.state.kind) }}
{{- end }}

{{/* Who may do what: the plan, and what `scopes.additional` grants beyond it. YAML of a map by app. */}}
{{- define "pizza.rights" -}}
{{- $apps := (.Files.Get "files/plan.json" | fromJson).apps -}}
{{- $planned := keys $apps -}}
{{- range $app, $more := .Values.scopes.additional -}}
{{- $now := index $apps $app | default (dict "publish" (list) "subscribe" (list)) -}}
{{- $publish := concat $now.publish ($more.publish | default list) -}}
{{- $subscribe := concat $now.subscribe ($more.subscribe | default list) -}}
{{- if not (has $app $planned) -}}
{{- $publish = append $publish (printf "deadletter.%s" $app) -}}
{{- $subscribe = append $subscribe (printf "replay.%s" $app) -}}
{{- range $planned_app := $planned -}}
{{- $its := index $apps $planned_app -}}
{{- if regexMatch "(^|,)deadletter\\." (join "," $its.subscribe) -}}
{{- $_ := set $its "subscribe" (append $its.subscribe (printf "deadletter.%s" $app)) -}}
{{- $_ := set $its "publish" (append $its.publish (printf "replay.%s" $app)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $_ := set $apps $app (dict "publish" (uniq $publish | sortAlpha) "subscribe" (uniq $subscribe | sortAlpha)) -}}
{{- end -}}
{{ toYaml $apps }}
{{- end }}

{{/* Rights as Dapr writes them: (dict "apps" $apps "what" "publish"). */}}
{{- define "pizza.scopes" -}}
{{- $each := list -}}
{{- range $app, $rights := .apps -}}
{{- $each = append $each (printf "%s=%s" $app (join "," (index $rights $.what))) -}}
{{- end -}}
{{ join ";" $each }}
{{- end }}

{{/* How many components share one consumer of the broker, each of which brings one event of a topic at a time. */}}
{{- define "pizza.parallel" -}}
{{- $component := .Files.Get (printf "files/components/%s.yaml" .Values.broker.kind) | fromYaml -}}
{{- index ($component.metadata.annotations | default dict) "tidings.dev/components" | default 1 -}}
{{- end }}

{{/* A component of files/components, its placeholders taken from a Secret: (dict "root" $ "set" "nats" "secret" "…"). */}}
{{- define "pizza.component" -}}
{{- $component := .root.Files.Get (printf "files/components/%s.yaml" .set) | fromYaml -}}
{{- $items := list -}}
{{- range $item := $component.spec.metadata -}}
{{- $place := regexFind "^\\$\\{[A-Z_]+\\}$" (toString $item.value) -}}
{{- if $place -}}
{{- $items = append $items (dict "name" $item.name "secretKeyRef" (dict "name" $.secret "key" (regexFind "[A-Z_]+" $place))) -}}
{{- else -}}
{{- $items = append $items $item -}}
{{- end -}}
{{- end -}}
{{- $_ := set $component.spec "metadata" (concat $items (.metadata | default list)) -}}
{{- $_ := unset $component.metadata "annotations" -}}
{{- if .number }}{{ $_ := set $component.metadata "name" (printf "%s-%d" $component.metadata.name .number) }}{{ end -}}
{{- $_ := set $component.metadata "labels" (include "pizza.labels" (dict "root" .root) | fromYaml) -}}
{{- $apps := dict -}}
{{- if and .apps .root.Values.scopes.enabled -}}{{- $apps = dict "scopes" (keys .apps | sortAlpha) -}}{{- end -}}
{{ toYaml (merge $component $apps (dict "auth" (dict "secretStore" "kubernetes"))) }}
{{- end }}

{{/* A secret value: what is in the cluster is kept, so that an upgrade changes no password. */}}
{{- define "pizza.kept" -}}
{{- $found := (lookup "v1" "Secret" .root.Release.Namespace .name).data | default dict -}}
{{- if hasKey $found .key -}}{{ index $found .key | b64dec }}{{- else -}}{{ randAlphaNum 32 }}{{- end -}}
{{- end -}}

{{/* A part of this release, as a peer of a NetworkPolicy. */}}
{{- define "pizza.peer" -}}
podSelector: {matchLabels: {app.kubernetes.io/instance: {{ .root.Release.Name }}, app.kubernetes.io/name: {{ .part }}}}
{{- end }}

{{/* The archive of this namespace, which the chart tidings installs. */}}
{{- define "pizza.archivePeer" -}}
podSelector: {matchLabels: {app.kubernetes.io/name: archive, app.kubernetes.io/part-of: tidings}}
{{- end }}
