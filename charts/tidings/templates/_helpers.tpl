{{- define "tidings.labels" -}}
{{ include "tidings.selector" . }}
app.kubernetes.io/part-of: tidings
app.kubernetes.io/version: {{ include "tidings.label" .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ include "tidings.label" (printf "%s-%s" .Chart.Name .Chart.Version) }}
{{- end }}

{{- /* A text as a label's value may be, or an image's tag: a version may have build metadata behind a "+". */ -}}
{{- define "tidings.label" -}}
{{ . | replace "+" "_" | trunc 63 | trimSuffix "-" | trimSuffix "_" | trimSuffix "." }}
{{- end }}

{{- /* The value of an environment variable: Helm has whole numbers as floats, and would write a million as 1e+06. */ -}}
{{- define "tidings.text" -}}
{{ if kindIs "float64" . }}{{ if eq . (floor .) }}{{ printf "%.0f" . }}{{ else }}{{ toJson . }}{{ end }}{{ else }}{{ toString . }}{{ end }}
{{- end }}

{{- /* What belongs to no namespace: an operator that looks after some namespaces leaves room for others beside it. */ -}}
{{- define "tidings.suffix" -}}
{{ if .Values.namespaces }}-{{ .Release.Namespace }}{{ end }}
{{- end }}

{{- define "tidings.selector" -}}
app.kubernetes.io/name: tidings-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* Fill in values that are missing after `helm upgrade --reuse-values` from an earlier chart. Begins every template. */ -}}
{{- define "tidings.filled" -}}
{{- include "tidings.fill" (dict "values" .Values "defaults" (.Files.Get "files/values.yaml" | fromYaml)) -}}
{{- end }}

{{- /* Maps whose keys are the user's own are not filled in: a key that is missing there was removed with null. */ -}}
{{- define "tidings.fill" -}}
{{- range $key, $default := .defaults -}}
{{- $value := get $.values $key -}}
{{- if not (hasKey $.values $key) -}}
{{- $_ := set $.values $key $default -}}
{{- else if and (kindIs "map" $default) (kindIs "map" $value) (not (has $key (list "resources" "sidecarResources" "dashboardLabels"))) -}}
{{- include "tidings.fill" (dict "values" $value "defaults" $default) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- /* Namespaces that have an archive, as a JSON list. */ -}}
{{- define "tidings.archiveNamespaces" -}}
{{- if .Values.archive.enabled -}}
{{- .Values.archive.namespaces | default (list .Release.Namespace) | toJson -}}
{{- else -}}[]{{- end -}}
{{- end }}

{{- /* Secret from which the operator takes the archives' tokens, by namespace; empty: none. */ -}}
{{- define "tidings.archiveTokens" -}}
{{- $tokens := .Values.archive.tokens -}}
{{- if $tokens.operatorSecret -}}{{ $tokens.operatorSecret }}
{{- else if and .Values.archive.enabled (not $tokens.archiveSecret) -}}tidings-archive-tokens{{- end -}}
{{- end }}

{{- define "tidings.archiveSelector" -}}
app.kubernetes.io/name: archive
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "tidings.archiveLabels" -}}
{{ merge (include "tidings.archiveSelector" . | fromYaml) (include "tidings.labels" . | fromYaml) | toYaml }}
{{- end }}

{{- /* A secret value that upgrades keep: (dict "namespace" … "name" … "key" …). */ -}}
{{- define "tidings.kept" -}}
{{- $found := (lookup "v1" "Secret" .namespace .name).data | default dict -}}
{{- if hasKey $found .key -}}{{ index $found .key | b64dec }}{{- else -}}{{ randAlphaNum 32 }}{{- end -}}
{{- end -}}

{{- define "tidings.archiveImage" -}}
{{- $image := .Values.archive.image -}}
{{ $image.override | default (printf "%s:%s" $image.repository ($image.tag | default (include "tidings.label" .Chart.AppVersion))) }}
{{- end }}

{{- define "tidings.operatorImage" -}}
{{- $image := .Values.image -}}
{{ $image.override | default (printf "%s:%s" ($image.repository | default "plant-based-pizza/operator") ($image.tag | default (include "tidings.label" .Chart.AppVersion))) }}
{{- end }}

{{- define "tidings.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{- /* OpenShift assigns users and groups to each namespace, and refuses pods that name others. */ -}}
{{- define "tidings.archivePodSecurity" -}}
runAsNonRoot: true
{{- if not (.Capabilities.APIVersions.Has "security.openshift.io/v1") }}
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
{{- end }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "tidings.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: {{ not .writable }}
capabilities: {drop: [ALL]}
{{- end }}
